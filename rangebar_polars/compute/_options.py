"""Settings that decide the bars and their columns, checked and in one form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rangebar_polars import _internal
from rangebar_polars._utils.arguments.checks import keeps_incomplete, require_bool
from rangebar_polars._utils.arguments.durations import parse_gap, parse_lookback
from rangebar_polars.catalogue import column_names
from rangebar_polars.distance import Distance, GridKind, grid_text, parse_grid
from rangebar_polars.exceptions import unknown_choice, with_hint
from rangebar_polars.threshold import parse_limits

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from rangebar_polars._typing import ContractSize, Features, Lookback, MaxGap
    from rangebar_polars._utils.arguments.durations import Window
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
_ALL = "all"
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


@dataclass(frozen=True, slots=True)
class Options:
    """Settings that decide the bars and their columns, the same for every entry point."""

    #: Percentages in decimal basis points, or absolute distances.
    thresholds: tuple[int, ...] | tuple[Distance, ...]
    long: bool
    features: tuple[str, ...]
    #: The look-back window; None for the default, or where no column needs one.
    lookback: Window | None = None
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
            **({} if self.lookback is None else self.lookback.kernel()),
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
            **self._columns(),
            "reset": None if self.reset is None else resets[self.reset],
            "max_gap": None if self.max_gap_ns is None else f"{self.max_gap_ns}ns",
            "incomplete": "keep" if self.keep else "drop",
            "prevent_same_timestamp_close": self.gate,
            **self._amounts(),
        }

    def _columns(self) -> dict[str, Any]:
        """Return the arguments that decide the columns, with the window unless it is the default."""
        window = {} if self.lookback is None else {"lookback": str(self.lookback)}
        return {"features": list(self.features), **window}

    def _amounts(self) -> dict[str, str]:
        """Return the arguments about sides and quantities that are not the default."""
        given = {} if self.side_is == _SIDES[0] else {"side_is": self.side_is}
        if self.contract_size is not None:
            given["contract_size"] = grid_text(self.contract_size)
        return given

    def describe(self) -> str:
        """List the arguments that differ from the defaults, for query plans and `repr`."""
        fold = {**self._columns(), **self._amounts()}
        arguments = self.arguments() if self.thresholds else fold
        facts = {name: value for name, value in arguments.items() if value != _DEFAULTS.get(name)}
        return ", ".join(f"{name}={value!r}" for name, value in facts.items())


def parse_options(
    threshold: LimitLike | Sequence[LimitLike],
    *,
    rule: str = DEFAULT_RULE,
    features: Features = "core",
    lookback: Lookback | None = None,
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
    names = _parse_features(features)
    return Options(
        thresholds=thresholds,
        long=long,
        features=names,
        lookback=_parse_window(lookback, names),
        rule=_choose("rule", rule, _internal.rules()),
        reset=_parse_reset(reset),
        max_gap_ns=None if max_gap is None else parse_gap(max_gap),
        keep=keeps_incomplete(incomplete),
        gate=bool(prevent_same_timestamp_close),
        side_is=_choose("side_is", side_is, _SIDES),
        contract_size=_parse_contract(contract_size),
    )


def fold_options(
    features: Features = "core",
    side_is: str = "taker",
    contract_size: ContractSize | None = None,
    lookback: Lookback | None = None,
) -> Options:
    """Check the settings for bars that the caller numbered."""
    names = _parse_features(features)
    return Options(
        thresholds=(),
        long=False,
        features=names,
        lookback=_parse_window(lookback, names),
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


def _parse_window(lookback: Lookback | None, features: Collection[str]) -> Window | None:
    """Return the window that a caller gave, which needs a column that uses it."""
    if lookback is None:
        return None
    window = parse_lookback(lookback)
    if not any(name in features for name in column_names().groups["lookback"]):
        raise ValueError(
            with_hint(
                "`lookback` is the window of look-back columns, of which none is requested",
                'request them: features="lookback", or leave `lookback` out',
            )
        )
    return window


def _parse_features(features: Features) -> tuple[str, ...]:
    """Return the names of columns beyond the core, in catalogue order."""
    core, optional, groups = column_names()
    chosen: set[str] = set()
    for name in [features] if isinstance(features, str) else _names(features):
        if name == _ALL:
            chosen.update(optional)
        elif name in groups:
            chosen.update(groups[name])
        elif name in core or name in optional:
            chosen.add(name)
        else:
            raise ValueError(unknown_choice("features", name, [*groups, _ALL, *optional]))
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


def _wrong_type(what: str, expected: str, value: object, hint: str) -> TypeError:
    sentence = f"`{what}` must be {expected}; it is of type `{type(value).__name__}`"
    return TypeError(with_hint(sentence, hint))
