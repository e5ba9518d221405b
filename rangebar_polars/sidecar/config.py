"""The configuration of a sidecar, and what an engine makes of it."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, Self

from rangebar_polars._text import shown
from rangebar_polars._utils.arguments.checks import require_bool
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.config import config_file_values, settings, written_value
from rangebar_polars.exceptions import LiveWarning, unknown_choice, with_hint
from rangebar_polars.readers.request import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import TextIO

    from rangebar_polars._utils.span import When
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["DEFAULT_THRESHOLDS", "DefaultPort", "SidecarConfig"]


class DefaultPort(int):
    """A port that nobody has chosen. If it is taken, the sidecar runs without it."""


DEFAULT_THRESHOLDS = (250, 500, 750, 1000)
#: Fields of the reference library that have no effect.
_WITHOUT_EFFECT = ("timeout_ms", "max_watchdog_restarts")


@dataclass(frozen=True, slots=True, kw_only=True)
class SidecarConfig:
    """What `run_sidecar` streams, where it delivers bars, and how it behaves.

    Parameters
    ----------
    symbols
        Symbols; a text is one symbol.
    thresholds
        Thresholds in decimal basis points, every one for every symbol.
    include_microstructure
        Whether frames have the columns of the group `microstructure`.
    verbose
        Whether the log has DEBUG messages and a line for each bar.
    watchdog_timeout_s
        A symbol that is not live for longer emits `sidecar_stalled`.
    gap_fill_on_startup
        Whether the start populates missing whole days.
    max_pending_bars
        Bars in memory for each consumer. Beyond them, bars are computed again from its cursor.
    health_port, health_host
        Address of the HTTP interface; port 0 turns it off. A port that is taken is an error if you set
        it. The default one is then left out with a warning.
    notify
        "failures", or "off".
    heartbeat_s
        Interval at which a notification says that all is well; None for none.
    cache
        Whether the bar cache is used: bars of past days are read from it, and those of finalized days
        are stored in it. Without it, bars are computed from stored trades.
    finalize
        Whether closed days are finalized: compared with the archive once it is published, and stored
        as units of the bar cache.
    finalize_interval_s
        Interval of that, in seconds.
    on_bars
        A function or coroutine function that receives frames of bars.
    ndjson
        True to write bars to stdout as lines of JSON, or a text stream to write them to.
    consumer
        Name of the stored positions of `on_bars` and `ndjson`.
    on_error
        What happens to a frame for which `on_bars` raises: "retry" or "skip".
    gap_patience_s
        Lowest age of a gap whose ids are confirmed missing.
    stale_after_s
        A symbol without a trade for so long is checked at once; None for 20 times its median interval.
    max_lag_s
        Longest tolerated lag of the stream.
    shutdown_timeout_s
        Longest time of an orderly stop.
    ouroboros, source, market, include_orphaned_bars, prevent_same_timestamp_close, anchor
        As for `live_bars`.
    cache_dir, dsn, ouroboros_mode
        As for `live_bars`.
    timeout_ms, max_watchdog_restarts
        Accepted for scripts of the reference library, with a warning and without effect.

    Raises
    ------
    ValueError
        A value is not valid.

    Examples
    --------
    >>> from rangebar_polars.sidecar import SidecarConfig
    >>> SidecarConfig(symbols="BTCUSDT", thresholds=[250]).symbols
    ('BTCUSDT',)
    """

    symbols: Sequence[str] | str
    thresholds: Sequence[ThresholdLike] | ThresholdLike = DEFAULT_THRESHOLDS
    include_microstructure: bool = True
    verbose: bool = False
    watchdog_timeout_s: float = 300.0
    gap_fill_on_startup: bool = True
    max_pending_bars: int = 10_000
    health_port: int = DefaultPort(8081)
    health_host: str = "127.0.0.1"
    notify: Literal["failures", "off"] = "failures"
    heartbeat_s: float | None = None
    cache: bool = True
    finalize: bool = True
    finalize_interval_s: float = 900.0
    on_bars: Callable[..., object] | None = None
    ndjson: bool | TextIO = False
    consumer: str = "default"
    on_error: Literal["retry", "skip"] = "retry"
    gap_patience_s: float = 30.0
    stale_after_s: float | None = None
    max_lag_s: float = 10.0
    shutdown_timeout_s: float = 20.0
    ouroboros: str | None = "year"
    source: str = "binance"
    market: str = "spot"
    include_orphaned_bars: bool = False
    prevent_same_timestamp_close: bool = True
    anchor: Literal["segment"] | When | None = None
    cache_dir: Path | str | None = None
    dsn: str | None = None
    ouroboros_mode: str | None = None
    timeout_ms: int | None = field(default=None, repr=False)
    max_watchdog_restarts: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        symbols = (self.symbols,) if isinstance(self.symbols, str) else tuple(listed(self.symbols))
        symbols = tuple(name for name in symbols if name)
        if not symbols:
            hint = 'name some, as in symbols=["BTCUSDT"], or set RANGEBAR_STREAMING_SYMBOLS'
            raise ValueError(with_hint("`symbols` is empty", hint))
        object.__setattr__(self, "symbols", symbols)
        one = self.thresholds
        thresholds = tuple(one) if isinstance(one, (list, tuple)) else (one,)
        if not thresholds:
            hint = "write thresholds=[250], or set RANGEBAR_STREAMING_THRESHOLDS"
            raise ValueError(with_hint("`thresholds` is empty", hint))
        object.__setattr__(self, "thresholds", thresholds)
        self._check_kinds()
        given = [name for name in _WITHOUT_EFFECT if getattr(self, name) is not None]
        if given:
            names = " and ".join(f"`{name}`" for name in given)
            message = f"{names} of the reference library has no effect here"
            warn_caller(message, LiveWarning)

    def _check_kinds(self) -> None:
        for name in _FLAGS:
            require_bool(**{name: getattr(self, name)})
        for name, choices in (("notify", ("failures", "off")), ("on_error", ("retry", "skip"))):
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(unknown_choice(name, str(value), choices))
        for name, low in _LOWEST.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not low <= value < float("inf"):
                raise ValueError(
                    f"`{name}` must be a number of at least {low:g}, not `{shown(value)}`"
                )
        if self.health_port > _HIGHEST_PORT:
            raise ValueError(
                f"`health_port` must be at most {_HIGHEST_PORT}, not `{shown(self.health_port)}`"
            )
        if self.on_bars is not None and not callable(self.on_bars):
            raise ValueError(f"`on_bars` must be a function, not `{shown(self.on_bars)}`")

    @classmethod
    def from_settings(cls, **overrides: Any) -> Self:  # noqa: ANN401 - values of the fields
        """Return the configuration of the settings `RANGEBAR_STREAMING_…`, with other values on top.

        Raises
        ------
        SettingError
            A setting is not valid.
        ValueError
            No symbol is named.

        Examples
        --------
        >>> from rangebar_polars.sidecar import SidecarConfig
        >>> SidecarConfig.from_settings(symbols=["ETHUSDT"]).symbols
        ('ETHUSDT',)
        """
        found = settings()
        values: dict[str, Any] = {
            "symbols": found.streaming_symbols or (),
            "include_microstructure": found.streaming_microstructure,
            "verbose": found.streaming_verbose,
            "watchdog_timeout_s": found.streaming_watchdog_timeout_s,
            "gap_fill_on_startup": found.streaming_gap_fill,
            "notify": found.streaming_notify,
            "max_pending_bars": found.max_pending_bars,
            "health_host": found.health_host,
        }
        if found.streaming_thresholds:
            values["thresholds"] = found.streaming_thresholds
        if written_value("health_port", {}, config_file_values({})) is not None:
            values["health_port"] = found.health_port
        known = {one.name for one in fields(cls)}
        unknown = sorted(set(overrides) - known)
        if unknown:
            raise ValueError(unknown_choice("field", unknown[0], tuple(sorted(known))))
        return cls(**{**values, **overrides})


_HIGHEST_PORT = 65_535
_LOWEST = {
    "watchdog_timeout_s": 1.0,
    "max_pending_bars": 1.0,
    "health_port": 0.0,
    "heartbeat_s": 1.0,
    "finalize_interval_s": 1.0,
    "gap_patience_s": 0.0,
    "stale_after_s": 0.001,
    "max_lag_s": 0.001,
    "shutdown_timeout_s": 0.0,
}
_FLAGS = (
    "include_microstructure",
    "verbose",
    "gap_fill_on_startup",
    "cache",
    "finalize",
    "include_orphaned_bars",
    "prevent_same_timestamp_close",
)
_OPTIONAL = frozenset({"heartbeat_s", "stale_after_s"})
