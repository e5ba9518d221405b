"""The validated arguments of a read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from itertools import product
from numbers import Integral
from typing import TYPE_CHECKING, Any

from rangebar_polars._text import shown
from rangebar_polars._utils.arguments.checks import require_bool
from rangebar_polars.bar_series.columns import all_columns
from rangebar_polars.bar_series.features import NO_FEATURES, FeatureSet
from rangebar_polars.bar_series.query import SeriesQuery
from rangebar_polars.bar_series.segments import segments
from rangebar_polars.catalogue import REFERENCE_COLUMNS, column_names
from rangebar_polars.compute._options import fold_options
from rangebar_polars.exceptions import TransientSourceError, with_hint
from rangebar_polars.ingest.fetch import ensure_days
from rangebar_polars.plugins.call import begin_call
from rangebar_polars.symbol_registry import past_gate, validate_symbols_registered
from rangebar_polars.threshold import items_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from rangebar_polars._typing import Features, Lookback, Plugins
    from rangebar_polars._utils.span import Span
    from rangebar_polars.ingest.report import FetchReport
    from rangebar_polars.plugins.call import PluginCall
    from rangebar_polars.sources import Venue
    from rangebar_polars.threshold import ThresholdLike

__all__ = [
    "CUT_COLUMN",
    "ENDING",
    "MAX_COMPUTED_DAYS",
    "Fetches",
    "ReadRequest",
    "extra_columns",
    "frame_columns",
    "in_order",
    "listed",
    "optional_columns",
    "past_gates",
    "plugins_of",
    "registered_symbols",
    "requests_of",
    "require_one",
    "watched",
]

#: Most UTC days that one read computes from ticks.
MAX_COMPUTED_DAYS = 31

_EXAMPLE = '"BTCUSDT", or ["BTCUSDT", "ETHUSDT"]'
#: Readers that have no name in `rb` itself.
_WHERE = {"get_n_bars": "readers.cached.get_n_bars"}

#: The column that shows which look-back windows were cut.
CUT_COLUMN = "lookback_trade_count"

#: Columns of a bar frame that the bars of one series do not have.
_NOT_STORED = frozenset({"threshold", "bar_id"})
#: Columns that tell closed bars from others.
ENDING = frozenset({"is_closed", "ended_by"})


class Fetches:
    """The fetches of one call, which its series of the same symbol share."""

    def __init__(self) -> None:
        self._reports: dict[tuple[Venue, str], list[tuple[Span, FetchReport]]] = {}
        self._errors: dict[tuple[Venue, str], TransientSourceError] = {}

    def ensure(
        self, venue: Venue, symbol: str, span: Span, cache_dir: Path | str | None
    ) -> FetchReport:
        """Fetch the missing days of a span, unless this call has done so or has failed to."""
        reports = self._reports.setdefault((venue, symbol), [])
        for fetched, report in reports:
            if fetched.start <= span.start and span.end <= fetched.end:
                return report
        error = self._errors.get((venue, symbol))
        if error is not None:
            raise error
        try:
            report = ensure_days(venue, symbol, span, cache_dir=cache_dir, is_read=True)
        except TransientSourceError as raised:
            self._errors[venue, symbol] = raised
            raise
        reports.append((span, report))
        return report


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest(SeriesQuery):
    """A query for series of bars, with the time, the columns and the caches to read."""

    #: Columns of a bar, in the order of the catalogue.
    columns: tuple[str, ...] = ()
    #: The time to cover. None for the newest bars.
    span: Span | None = None
    #: Bars close before this instant. None for no bound.
    end: datetime | None = None
    #: Number of newest bars. None for all bars.
    count: int | None = None
    #: Whether to include bars that a reset or a gap ended.
    include_orphans: bool = False
    #: Whether to include the forming bar at the end.
    include_incomplete: bool = False
    #: Whether the read ends with the newest available tick or bar, as no end was passed.
    is_open: bool = False
    use_cache: bool = True
    #: Whether missing ticks may be fetched.
    fetch: bool = True
    cache_dir: Path | str | None = None
    dsn: str | None = field(default=None, repr=False)
    #: Plugins whose columns follow those of a bar. None for none.
    plugins: PluginCall | None = field(default=None, repr=False, compare=False)
    #: Shared by the requests of one call.
    fetches: Fetches = field(default_factory=Fetches, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_bool(use_cache=self.use_cache, fetch_if_missing=self.fetch)
        require_bool(
            include_orphaned_bars=self.include_orphans, include_incomplete=self.include_incomplete
        )

    @property
    def start(self) -> datetime | None:
        """The start of the span. None for no bound."""
        return None if self.span is None else self.span.start

    @property
    def plugin_columns(self) -> tuple[str, ...]:
        """The columns of plugins."""
        return () if self.plugins is None else self.plugins.columns

    @property
    def context(self) -> int:
        """The number of bars before the read that plugins need."""
        return 0 if self.plugins is None else self.plugins.min_bars

    @property
    def segment_starts(self) -> list[date] | None:
        """The first day of each segment that the span touches. None for all segments."""
        if self.span is None:
            return None
        return [segment.start for segment in segments(self.span, self.spec.reset)]


def extra_columns(
    features: Features = "core",
    lookback: Lookback | None = None,
    *,
    microstructure: bool = False,
) -> tuple[tuple[str, ...], FeatureSet]:
    """Return the columns that a pandas reader adds to open, high, low, close and volume.

    Return their optional feature groups, too. `microstructure` puts the reference library's
    columns before the others.

    Examples
    --------
    >>> from rangebar_polars.readers.request import extra_columns
    >>> extra_columns(["vwap", "ofi"])[0], extra_columns("core")[0]
    (('vwap', 'ofi'), ())
    """
    require_bool(include_microstructure=microstructure)
    features = features if isinstance(features, str) else tuple(features)
    optional, groups = optional_columns(features, lookback)
    named = {features} if isinstance(features, str) else set(features)
    always = {"open_time", "close_time", "open", "high", "low", "close", "volume"}
    wanted = (named & set(column_names().core) | set(optional)) - always - _NOT_STORED
    first = REFERENCE_COLUMNS if microstructure else ()
    return (*first, *(name for name in in_order(wanted) if name not in first)), groups


def optional_columns(
    features: Features, lookback: Lookback | None = None
) -> tuple[tuple[str, ...], FeatureSet]:
    """Return the requested columns beyond the core, and their optional feature groups.

    Raises
    ------
    ValueError
        A name is unknown, the window is outside of its limits, or no column uses it.
    """
    if features == "core" and lookback is None:
        return (), NO_FEATURES
    options = fold_options(features, lookback=lookback)
    groups = {column.group for column in all_columns() if column.bar_name in options.features}
    return options.features, FeatureSet.of(groups, options.lookback)


def watched(columns: Iterable[str], features: FeatureSet) -> set[str]:
    """Return columns with the one that shows which look-back windows were cut."""
    return {*columns, *([CUT_COLUMN] if features.groups and features.has_window else [])}


def frame_columns(extra: Iterable[str], *, endings: bool) -> tuple[str, ...]:
    """Return the columns of bars of one series in Polars frames."""
    left_out = _NOT_STORED if endings else _NOT_STORED | ENDING
    return in_order({*column_names().core, *extra} - left_out)


def plugins_of(include: Plugins, symbol: str = "") -> PluginCall | None:
    """Return the plugins of a read; None if it adds no column of one.

    Raises
    ------
    ValueError, TypeError, PluginError
        As for `begin_call`.
    """
    if include is False:
        return None
    call = begin_call(include, symbol)
    return call if call.columns else None


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the columns in the order of the catalogue."""
    requested, (core, optional, _) = set(names), column_names()
    return tuple(name for name in (*core, *optional) if name in requested)


def registered_symbols(
    symbol: str | Sequence[str], *, operation: str
) -> tuple[tuple[str, ...], bool]:
    """Return registered symbols in upper case, and whether they came as a list.

    Raises
    ------
    SymbolNotRegisteredError
        A symbol is not registered, or not enabled.
    ValueError
        The list is empty, or names a symbol twice.
    TypeError
        The value is neither text nor a list of texts.

    Examples
    --------
    >>> from rangebar_polars.readers.request import registered_symbols
    >>> registered_symbols(["btcusdt", "ETHUSDT"], operation="scan_ticks")
    (('BTCUSDT', 'ETHUSDT'), True)
    """
    several = None if isinstance(symbol, str) else listed(symbol)
    if several is not None and not several:
        sentence = "the list of symbols is empty; it needs at least one"
        raise ValueError(with_hint(sentence, _EXAMPLE))
    symbols: list[Any] = [symbol] if several is None else several
    names = validate_symbols_registered(symbols, operation=operation)
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        sentence = f"`symbol` names `{repeated[0]}` twice"
        raise ValueError(with_hint(sentence, "leave one of them out"))
    return names, several is not None


def listed(value: object) -> list[Any]:
    """Return the items of a list, or of an array or a series of a library.

    Raises
    ------
    TypeError
        The value has no items, or they have no order.
    """
    if isinstance(value, (set, frozenset)):
        raise TypeError(
            with_hint(
                f"symbols in a set have no order: `{shown(value)}`",
                f"write a list: {json.dumps(sorted(map(str, value)), ensure_ascii=False)}",
            )
        )
    items = items_of(value)
    if items is not None:
        return items
    if isinstance(value, Iterable) and not isinstance(value, (Mapping, bytes, bytearray)):
        return list(value)
    kind = type(value).__name__
    sentence = f"`symbol` must be text or a list of texts; it is of type `{kind}`"
    raise TypeError(with_hint(sentence, _EXAMPLE))


def require_one(
    operation: str, symbol: object, threshold: object, *arguments: object, **span: object
) -> None:
    """Refuse several symbols or thresholds where a reader takes one of each.

    Parameters
    ----------
    operation
        Name of the reader.
    symbol, threshold
        What it was given.
    arguments
        Its positional arguments between the two.
    span
        `start` and `end`, if the reader takes both. `scan_range_bars` then reads the same.

    Raises
    ------
    TypeError
        There are several; the hint is a call that reads them.

    Examples
    --------
    >>> from rangebar_polars.readers.request import require_one
    >>> require_one("get_range_bars", ["BTCUSDT"], 250, start="2024-01-01", end="2024-01-31")
    Traceback (most recent call last):
        ...
    TypeError: `get_range_bars` reads one symbol; `symbol` is `['BTCUSDT']`
    <BLANKLINE>
    hint: read them in one plan: rb.scan_range_bars(["BTCUSDT"], "2024-01-01", "2024-01-31", 250)
    """
    given = {"symbol": symbol, "threshold": threshold}
    several = {name: value for name, value in given.items() if _is_several(value)}
    if not several:
        return
    listed = " and ".join(f"`{name}` is `{shown(value)}`" for name, value in several.items())
    sentence = f"`{operation}` reads one {' and one '.join(several)}; {listed}"
    if span.get("start") is not None and span.get("end") is not None:
        values = (symbol, span["start"], span["end"], threshold)
        hint = f"read them in one plan: rb.scan_range_bars({', '.join(map(_code, values))})"
    else:
        call = _loop(operation, several, symbol, threshold, arguments)
        hint = f"call it for each: {call}; rb.scan_range_bars reads lists of them in one plan"
    raise TypeError(with_hint(sentence, hint))


def _loop(
    operation: str,
    several: Mapping[str, object],
    symbol: object,
    threshold: object,
    arguments: Sequence[object],
) -> str:
    """Return a comprehension that calls a reader for each symbol and threshold."""
    loops = " ".join(f"for {name} in {_code(value)}" for name, value in several.items())
    names = {"symbol": symbol, "threshold": threshold}
    first, last = (name if name in several else _code(value) for name, value in names.items())
    passed = ", ".join([first, *map(_code, arguments), last])
    return f"[rb.{_WHERE.get(operation, operation)}({passed}) {loops}]"


def _is_several(value: object) -> bool:
    return not isinstance(value, str) and (
        isinstance(value, (set, frozenset)) or items_of(value) is not None
    )


def _code(value: object) -> str:
    """Return an argument as code that runs where only `rb` is imported."""
    if isinstance(value, (set, frozenset)):
        value = sorted(value, key=str)
    items = None if isinstance(value, str) else items_of(value)
    if items is not None:
        return f"[{', '.join(map(_code, items))}]"
    if isinstance(value, Integral) and not isinstance(value, bool):
        return str(int(value))
    if isinstance(value, (str, date)) or type(value).__module__ == "numpy":
        return json.dumps(str(value), ensure_ascii=False)
    return repr(value)


def requests_of(
    request: Callable[..., ReadRequest],
    query: Callable[[str, ThresholdLike], SeriesQuery],
    spans: Mapping[str, Span],
    thresholds: Sequence[ThresholdLike],
) -> list[ReadRequest]:
    """Return a request for each symbol and threshold."""
    found = []
    for (name, span), threshold in product(spans.items(), thresholds):
        one = query(name, threshold)
        found.append(request(one.spec, one.anchor, one.features, span=span, end=span.end))
    return found


@contextmanager
def past_gates(symbols: Iterable[str]) -> Iterator[None]:
    """Accept symbols within the block, as `past_gate` does."""
    with ExitStack() as stack:
        for symbol in symbols:
            stack.enter_context(past_gate(symbol))
        yield
