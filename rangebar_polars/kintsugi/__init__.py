"""Repair of a tick store and its bar cache: what is missing, stale, damaged or different is found and mended.

`kintsugi_pass` runs once, `kintsugi_daemon` again and again; the command is `rangebar repair`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.arguments.checks import require_bool
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.exceptions import RangeBarError, with_hint
from rangebar_polars.kintsugi.daemon import run_daemon
from rangebar_polars.kintsugi.passes import Limits, RepairPass
from rangebar_polars.kintsugi.scope import Scope
from rangebar_polars.kintsugi.shards import KintsugiReport, KintsugiResult, Shard
from rangebar_polars.sources import canonical_market
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.symbol_registry import validate_symbol_registered
from rangebar_polars.threshold import parse_threshold

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rangebar_polars.threshold import ThresholdLike

__all__ = [
    "KintsugiReport",
    "KintsugiResult",
    "Shard",
    "discover_shards",
    "kintsugi_daemon",
    "kintsugi_pass",
]


def kintsugi_pass(
    *,
    dry_run: bool = False,
    symbol: str | Sequence[str] | None = None,
    max_p2_jobs: int = 1,
    include_microstructure: bool = True,
    verbose: bool = False,
    max_days: int = 400,
    deadline_s: float | None = None,
    max_stale_hours: float = 72,
    source: str | None = None,
    market: str | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> KintsugiReport:
    """Find what is wrong with stored ticks and bars, and repair it.

    Ticks are fetched, journals compacted, and bars computed again by the same functions as ever.
    Readers see the old bars, whole, until the new ones are complete. A pass right after a pass
    changes nothing. What cannot be repaired is tried again by later passes, ever more rarely.

    Parameters
    ----------
    dry_run
        Only find: nothing is written, and nothing locked.
    symbol, source, market
        Only this symbol, or these; by default all that are stored.
    max_p2_jobs
        Most holes of 48 hours and more that are filled.
    include_microstructure
        Accepted; both groups are always stored.
    verbose
        Show progress bars.
    max_days
        Tasks that can wait, such as archives that were published again, begin while fewer days of
        bars were computed.
    deadline_s
        Seconds after which only urgent tasks begin, and no further file is read.
    max_stale_hours
        How many hours ago the first day without bars may have ended.
    cache_dir, dsn
        The tick store and the bar cache.

    Returns
    -------
    KintsugiReport
        A sequence of results, one for each task. `status` is "clean", "healed", "open" if a task is
        left, or "unknown" if something could not be looked at.

    Raises
    ------
    SymbolNotRegisteredError
        The symbol is not registered.
    SettingError
        A setting is not valid.
    MissingExtraError
        A library that is needed is not installed.
    ValueError
        An argument is not valid.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.kintsugi import kintsugi_pass
    >>> print(kintsugi_pass(cache_dir=mkdtemp()))
    status: clean
    """
    raise_if_forked("kintsugi_pass")
    require_bool(dry_run=dry_run, include_microstructure=include_microstructure, verbose=verbose)
    work = RepairPass(
        _scope(symbol, source, market, cache_dir, dsn),
        _limits(max_p2_jobs, max_days, deadline_s, max_stale_hours),
        verbose=verbose,
    )
    return work.planned() if dry_run else work.run()


def kintsugi_daemon(
    *,
    interval_clean_s: float = 1800,
    interval_active_s: float = 900,
    stop: threading.Event | None = None,
    symbol: str | Sequence[str] | None = None,
    max_p2_jobs: int = 1,
    include_microstructure: bool = True,
    verbose: bool = False,
    max_days: int = 400,
    deadline_s: float | None = None,
    max_stale_hours: float = 72,
    source: str | None = None,
    market: str | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    on_report: Callable[[KintsugiReport], object] | None = None,
) -> None:
    """Run passes again and again, until `stop` is set, or SIGTERM or SIGINT arrives.

    A task in progress is finished first; a second signal ends the process at once.

    Parameters
    ----------
    interval_clean_s, interval_active_s
        Seconds between passes, if nothing is open, and if something is.
    stop
        Ends it.
    on_report
        Called with the report of each pass.
    symbol, max_p2_jobs, include_microstructure, verbose, max_days, deadline_s, max_stale_hours
        As for `kintsugi_pass`.
    source, market, cache_dir, dsn
        As for `kintsugi_pass`.

    Raises
    ------
    SymbolNotRegisteredError, SettingError, MissingExtraError, ValueError
        As for `kintsugi_pass`.

    Examples
    --------
    >>> import threading
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.kintsugi import kintsugi_daemon
    >>> stop = threading.Event()
    >>> kintsugi_daemon(stop=stop, cache_dir=mkdtemp(), on_report=lambda report: stop.set())
    """
    raise_if_forked("kintsugi_daemon")
    require_bool(include_microstructure=include_microstructure, verbose=verbose)
    for name, value in (
        ("interval_clean_s", interval_clean_s),
        ("interval_active_s", interval_active_s),
    ):
        _require_number(name, value, 0)
    scope = _scope(symbol, source, market, cache_dir, dsn)
    limits = _limits(max_p2_jobs, max_days, deadline_s, max_stale_hours)

    def run_pass(is_stopped: Callable[[], bool]) -> KintsugiReport:
        report = RepairPass(scope, limits, verbose=verbose, is_stopped=is_stopped).run()
        if on_report is not None:
            on_report(report)
        return report

    run_daemon(
        run_pass,
        interval_clean_s=interval_clean_s,
        interval_active_s=interval_active_s,
        stop=stop,
    )


def discover_shards(
    *,
    min_gap_hours: float = 0,
    max_stale_hours: float = 72,
    symbol: str | Sequence[str] | None = None,
    threshold: ThresholdLike | None = None,
    source: str | None = None,
    market: str | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
) -> list[Shard]:
    """Find what is wrong with stored ticks and bars.

    Parameters
    ----------
    min_gap_hours
        Leave out holes in ticks that are shorter.
    threshold
        Only tasks that concern bars of this threshold.
    max_stale_hours, symbol, source, market, cache_dir, dsn
        As for `kintsugi_pass`.

    Returns
    -------
    list of Shard
        In the order in which a pass repairs them.

    Raises
    ------
    RangeBarError
        Something could not be looked at.
    SymbolNotRegisteredError, SettingError, MissingExtraError, ValueError
        As for `kintsugi_pass`.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.kintsugi import discover_shards
    >>> discover_shards(cache_dir=mkdtemp())
    []
    """
    _require_number("min_gap_hours", min_gap_hours, 0)
    report = kintsugi_pass(
        dry_run=True,
        symbol=symbol,
        max_stale_hours=max_stale_hours,
        source=source,
        market=market,
        cache_dir=cache_dir,
        dsn=dsn,
    )
    if report.failures:
        raise RangeBarError("; ".join(report.failures))
    wanted = None if threshold is None else parse_threshold(threshold)
    return [
        shard
        for shard in (result.shard for result in report)
        if (not shard.kind.startswith("tick_") or shard.gap_hours >= min_gap_hours)
        and (wanted is None or any(one.spec.threshold == wanted for one in shard.series))
    ]


def _scope(
    symbol: str | Sequence[str] | None,
    source: str | None,
    market: str | None,
    cache_dir: Path | str | None,
    dsn: str | None,
) -> Scope:
    names = [] if symbol is None else [symbol] if isinstance(symbol, str) else list(symbol)
    registered = tuple(validate_symbol_registered(name, operation="repair") for name in names)
    if source is not None and market is not None:
        source, market = canonical_market(source, market)
    resolve(dsn, cache_dir)  # a wrong address is an error before anything is written
    return Scope(TickStorage(cache_dir), cache_dir, dsn, registered, source, market)


def _limits(
    max_p2_jobs: int, max_days: int, deadline_s: float | None, max_stale_hours: float
) -> Limits:
    _require_number("max_p2_jobs", max_p2_jobs, 0)
    _require_number("max_days", max_days, 0)
    _require_number("max_stale_hours", max_stale_hours, 0)
    if deadline_s is not None:
        _require_number("deadline_s", deadline_s, 0)
    return Limits(max_p2_jobs, max_days, deadline_s, max_stale_hours)


def _require_number(name: str, value: object, low: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not low <= value < float("inf"):  # type: ignore[operator]
        hint = f"{name}={low:g} or more"
        raise ValueError(with_hint(f"`{name}` is `{value}`, which is not a valid number", hint))
