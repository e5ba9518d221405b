"""The argument parser of the commands: each error names what was probably meant."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NoReturn

from rangebar_polars.exceptions import nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["CommandParser"]

#: Commands of other packages, and what they are called here.
ALIASES = {
    "clear": "cache drop",
    "download": "fetch",
    "load": "fetch",
    "precompute": "populate",
    "settings": "config",
    "check": "doctor",
    "info": "doctor",
    "version": "doctor",
}


class CommandParser(argparse.ArgumentParser):
    """A parser that reports its own unknown options, and proposes the nearest name."""

    #: Whether `parse_known_args` is called by itself.
    _is_parsing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401
        """Parse the arguments; refuse unknown ones with the usage of this command."""
        if self._is_parsing or _has_actions(self):
            return super().parse_known_args(args, namespace)
        self._is_parsing = True
        try:
            # Options may stand between the files or symbols.
            parsed, unknown = super().parse_known_intermixed_args(args, namespace)
        finally:
            self._is_parsing = False
        # Left to the parser of the whole command, they would be reported with its usage.
        if unknown:
            self.error(self._describe_unknown(unknown))
        return parsed, unknown

    def error(self, message: str) -> NoReturn:
        """Print the usage and the message, and exit with status 2."""
        help_of = f"{self.prog} --help"
        super().error(f"{message}\n\nhint: `{help_of}` shows the arguments and examples")

    def _check_value(self, action: argparse.Action, value: Any) -> None:  # noqa: ANN401
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            raise argparse.ArgumentError(None, self._describe_command(str(value), action))
        near = nearest(str(value), choices)
        meant = f"; did you mean `{near}`?" if near else ""
        listed = ", ".join(choices)
        raise argparse.ArgumentError(action, f"`{value}` is not one of {listed}{meant}")

    def _describe_unknown(self, unknown: Sequence[str]) -> str:
        """Describe arguments that no option takes."""
        options = [word for word in unknown if word.startswith("-") and word != "-"]
        if not options:
            return f"unexpected arguments: {' '.join(unknown)}"
        known = {
            name.removeprefix("--"): name
            for name in self._option_string_actions
            if name.startswith("--")
        }
        parts = []
        for option in options:
            name = option.partition("=")[0]
            near = nearest(name.strip("-"), known)
            meant = f"; did you mean `{known[near]}`?" if near else ""
            parts.append(f"unknown option `{name}`{meant}")
        return "; ".join(parts)

    def _describe_command(self, value: str, action: Any) -> str:  # noqa: ANN401
        """Describe an unknown command, with the one that was probably meant."""
        commands: dict[str, argparse.ArgumentParser] = dict(action.choices)
        meant = ALIASES.get(value) if self.prog == "rangebar" else None
        if meant is None:
            meant = next(
                (f"{name} {value}" for name, verb in commands.items() if value in _actions(verb)),
                None,
            )
        meant = meant or nearest(value, commands)
        sentence = f"there is no command `{self.prog} {value}`"
        if meant:
            return f"{sentence}; did you mean `{self.prog} {meant}`?"
        return f"{sentence}; choose from {', '.join(commands)}"


def _has_actions(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(a, argparse._SubParsersAction) for a in parser._actions)  # noqa: SLF001


def _actions(verb: argparse.ArgumentParser) -> set[str]:
    """Return the names of the actions of a command."""
    return {
        name
        for action in verb._actions  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
        for name in action.choices
    }
