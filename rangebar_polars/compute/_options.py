"""Settings that decide the bars and their columns, checked and in one form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rangebar_polars import _internal
from rangebar_polars._text import shown
from rangebar_polars._utils.arguments.checks import keeps_incomplete, require_bool
from rangebar_polars.catalogue import column_names
from rangebar_polars.distance import Distance, GridKind, grid_text, parse_grid
from rangebar_polars.exceptions import unknown_choice, with_hint
from rangebar_polars.threshold import parse_limits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rangebar_polars._typing import ContractSize, Features, MaxGap
    from rangebar_polars.threshold import LimitLike

__all__ = ["Options", "fold_options", "parse_options"]

# Resets by their name in the arguments and in the kernel. Polars truncates "1w" to Monday.
_RESETS = {
    "year": "year",
    "month": "month",
    "week": "week_sunday",
    "day": "day",
    "1y": "year",
    "1mo": "month",
    "1w": "week_monday",
    "1d": "day",
}
_NO_RESET = "none"
_SIDES = ("taker", "maker")
_CONTRACT = GridKind(
    "`contract_size`", 'contract_size="{}"', "100", "quote units of one contract", ValueError
)
DEFAULT_RULE = "open"
_DEFAULTS: dict[str, object] = {
    "features": [],
    "reset": None,
    "max_gap": None,
    "incomplete": "drop",
    "prevent_same_timestamp_close": True,
}
_SECOND = 1_000_000_000
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_DURATION_PART = re.compile(r"([0-9]{1,19})([a-zµμ]+)")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_LONGEST_GAP = 2**63 - 1
_GAP_HINT = 'write max_gap="1h"; the units are ns, us, ms, s, m and h'
#: A number and a unit, in the ways in which they are also written.
_LOOSE_DURATION = r"[+-]?\s*([0-9]{1,9})\s*([A-Za-zµμ]+)"
_MONTH = "M"
_HOURS = {"d": 24, "day": 24, "days": 24, "w": 168, "week": 168, "weeks": 168}
_UNIT_NAMES = {
    **dict.fromkeys(("hour", "hours", "hr", "hrs"), "h"),
    **dict.fromkeys(("minute", "minutes", "min", "mins", "t"), "m"),
    **dict.fromkeys(("second", "seconds", "sec", "secs"), "s"),
}


@dataclass(frozen=True, slots=True)
class Options:
    """Settings that decide the bars and their columns, the same for every entry point."""

    #: Percentages in decimal basis points, or absolute distances.
    thresholds: tuple[int, ...] | tuple[Distance, ...]
    long: bool
    features: tuple[str, ...]
    rule: str = DEFAULT_RULE
    reset: str | None = None
    max_gap_ns: int | None = None
    keep: bool = False
    gate: bool = True
    #: Whose side a column of sides holds.
    side_is: str = "taker"
    #: Worth of a contract in quote units of 1e-8, where quantities count contracts.
    contract_size: int | None = None

    def kernel(
        self,
        roles: Sequence[str],
        names: Sequence[str],
        *,
        project: Sequence[str] | None = None,
        absolute_rows: bool = False,
    ) -> dict[str, Any]:
        """Return the settings for the kernel, with `names` and `roles` of the columns."""
        distances = [limit.grid for limit in self.thresholds if isinstance(limit, Distance)]
        return {
            "roles": list(roles),
            "names": list(names),
            "rule": self.rule,
            "thresholds": [] if distances else list(self.thresholds),
            "distances": distances,
            "long": self.long,
            "features": list(self.features),
            "reset": self.reset,
            "max_gap_ns": self.max_gap_ns,
            "keep": self.keep,
            "gate": self.gate,
            "side_is_maker": self.side_is == "maker",
            "contract_size": self.contract_size,
            "project": None if project is None else list(project),
            "absolute_rows": absolute_rows,
        }

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that give these settings, with the rule unless it is the default."""
        resets = {mode: name for name, mode in reversed(_RESETS.items())}
        rule = {} if self.rule == DEFAULT_RULE else {"rule": self.rule}
        return {
            **rule,
            "threshold": list(self.thresholds) if self.long else self.thresholds[0],
            "features": list(self.features),
            "reset": None if self.reset is None else resets[self.reset],
            "max_gap": None if self.max_gap_ns is None else f"{self.max_gap_ns}ns",
            "incomplete": "keep" if self.keep else "drop",
            "prevent_same_timestamp_close": self.gate,
            **self._amounts(),
        }

    def _amounts(self) -> dict[str, str]:
        """Return the arguments about sides and quantities that are not the default."""
        given = {} if self.side_is == _SIDES[0] else {"side_is": self.side_is}
        if self.contract_size is not None:
            given["contract_size"] = grid_text(self.contract_size)
        return given

    def describe(self) -> str:
        """List the arguments that differ from the defaults, for query plans and `repr`."""
        fold = {"features": list(self.features), **self._amounts()}
        arguments = self.arguments() if self.thresholds else fold
        facts = {name: value for name, value in arguments.items() if value != _DEFAULTS.get(name)}
        return ", ".join(f"{name}={value!r}" for name, value in facts.items())


def parse_options(
    threshold: LimitLike | Sequence[LimitLike],
    *,
    rule: str = DEFAULT_RULE,
    features: Features = "core",
    reset: str | None = None,
    max_gap: MaxGap | None = None,
    incomplete: str | bool = "drop",
    prevent_same_timestamp_close: bool = True,
    side_is: str = "taker",
    contract_size: ContractSize | None = None,
) -> Options:
    """Check the settings for bars of one or several thresholds."""
    thresholds, long = parse_limits(threshold)
    require_bool(prevent_same_timestamp_close=prevent_same_timestamp_close)
    return Options(
        thresholds=thresholds,
        long=long,
        features=_parse_features(features),
        rule=_choose("rule", rule, _internal.rules()),
        reset=_parse_reset(reset),
        max_gap_ns=None if max_gap is None else _parse_gap(max_gap),
        keep=keeps_incomplete(incomplete),
        gate=bool(prevent_same_timestamp_close),
        side_is=_choose("side_is", side_is, _SIDES),
        contract_size=_parse_contract(contract_size),
    )


def fold_options(
    features: Features = "core",
    side_is: str = "taker",
    contract_size: ContractSize | None = None,
) -> Options:
    """Check the settings for bars that the caller numbered."""
    return Options(
        thresholds=(),
        long=False,
        features=_parse_features(features),
        side_is=_choose("side_is", side_is, _SIDES),
        contract_size=_parse_contract(contract_size),
    )


def _parse_contract(size: ContractSize | None) -> int | None:
    return None if size is None else parse_grid(size, _CONTRACT)


def _parse_reset(reset: str | None) -> str | None:
    """Return the kernel's name of a reset; None and "none" are no reset."""
    if reset is None or reset == _NO_RESET:
        return None
    return _RESETS[_choose("reset", reset, (*_RESETS, _NO_RESET))]


def _choose(what: str, value: str, choices: Collection[str]) -> str:
    if not isinstance(value, str):
        first, *rest = [f'"{choice}"' for choice in choices]
        expected = f"one of {', '.join([first, *rest])}"
        raise _wrong_type(what, expected, value, f"write {what}={first}")
    if value not in choices:
        raise ValueError(unknown_choice(what, value, list(choices)))
    return value


def _parse_features(features: Features) -> tuple[str, ...]:
    """Return the names of columns beyond the core, in catalogue order."""
    core, optional, groups = column_names()
    chosen: set[str] = set()
    for name in [features] if isinstance(features, str) else _names(features):
        if name in groups:
            chosen.update(groups[name])
        elif name in core or name in optional:
            chosen.add(name)
        else:
            raise ValueError(unknown_choice("features", name, [*groups, *optional]))
    return tuple(name for name in optional if name in chosen)


def _names(features: object) -> list[str]:
    expected = "the name of a group or of a column, or a list of these"
    if not isinstance(features, Iterable) or isinstance(features, (bytes, bytearray)):
        group = "microstructure" if features is True else "core"
        raise _wrong_type("features", expected, features, f'write features="{group}"')
    names = list(features)
    for name in names:
        if not isinstance(name, str):
            raise _wrong_type("features", expected, name, 'write features=["ofi", "duration_us"]')
    return names


def _parse_gap(gap: MaxGap) -> int:
    if isinstance(gap, timedelta):
        nanoseconds = (gap.days * 86_400 + gap.seconds) * _SECOND + gap.microseconds * 1000
    elif isinstance(gap, str):
        nanoseconds = _parse_duration(gap)
    else:
        is_seconds = isinstance(gap, int) and not isinstance(gap, bool) and gap > 0
        hint = f'if these are seconds, write max_gap="{gap}s"' if is_seconds else _GAP_HINT
        expected = 'a timedelta or a duration such as "1h" or "30m"'
        raise _wrong_type("max_gap", expected, gap, hint)
    if not 0 < nanoseconds <= _LONGEST_GAP:
        sentence = f"`max_gap` must be longer than 0 and below 292 years; it is `{gap}`"
        raise ValueError(with_hint(sentence, f"{_GAP_HINT}. None is no limit"))
    return nanoseconds


def _parse_duration(text: str) -> int:
    stripped = text.strip()
    parts = _DURATION_PART.findall(stripped) if _DURATION.fullmatch(stripped) else []
    if not parts or any(unit not in _NANOSECONDS for _, unit in parts):
        raise ValueError(
            with_hint(
                f"`max_gap` cannot be `{shown(text)}`: it must consist of numbers, each with a unit "
                "of fixed length: ns, us, ms, s, m, h",
                _meant_duration(stripped)
                or f"{_GAP_HINT}. The length of months, quarters and years depends on the calendar",
            )
        )
    return sum(int(number) * _NANOSECONDS[unit] for number, unit in parts)


def _meant_duration(text: str) -> str | None:
    """Return the hint for a duration with a blank, a sign or a unit of days; None for others."""
    found = re.fullmatch(_LOOSE_DURATION, text)
    if found is None:
        return None
    number, unit = int(found[1]), found[2].lower() if found[2] != _MONTH else _MONTH
    hours = _HOURS.get(unit)
    meant = f"{number * hours}h" if hours else f"{number}{_UNIT_NAMES.get(unit, unit)}"
    is_known = hours is not None or unit in _NANOSECONDS or unit in _UNIT_NAMES
    return f'write max_gap="{meant}"' if number and is_known else None


def _wrong_type(what: str, expected: str, value: object, hint: str) -> TypeError:
    sentence = f"`{what}` must be {expected}; it is of type `{type(value).__name__}`"
    return TypeError(with_hint(sentence, hint))
