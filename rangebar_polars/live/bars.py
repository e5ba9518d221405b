"""`live_bars`: bars of one or several symbols while their trades arrive."""

from __future__ import annotations

import asyncio
import threading
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self

import polars as pl

from rangebar_polars._utils import clock
from rangebar_polars._utils.arguments.checks import count_of, require_bool
from rangebar_polars._utils.arguments.durations import parse_interval
from rangebar_polars._utils.arguments.keywords import checked_keywords
from rangebar_polars._utils.fork import raise_if_forked
from rangebar_polars._utils.optional import import_extra
from rangebar_polars._utils.progress import progress
from rangebar_polars.bar_series.segments import reset_of
from rangebar_polars.config import settings
from rangebar_polars.exceptions import RangeBarError, with_hint
from rangebar_polars.live.consumers import DeliveryOptions
from rangebar_polars.live.consumers.forming import FormingBars
from rangebar_polars.live.consumers.iterator import BarIterator
from rangebar_polars.live.frames import BarFrames
from rangebar_polars.live.parts import LiveParts
from rangebar_polars.live.plan import plan_live, require_platform
from rangebar_polars.readers.request import listed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from datetime import timedelta
    from pathlib import Path
    from types import TracebackType

    from rangebar_polars._typing import Features
    from rangebar_polars._utils.span import When
    from rangebar_polars.threshold import ThresholdLike

__all__ = ["LiveBars", "live_bars"]

#: How often an iterator without bars looks whether all symbols have failed.
LOOK_S = 1.0
#: How long `close` waits for the thread.
CLOSE_S = 5.0


@checked_keywords
def live_bars(
    symbol: str | Sequence[str],
    threshold: ThresholdLike | Sequence[ThresholdLike] = 250,
    *,
    since: When | None = None,
    until: When | None = None,
    features: Features = "core",
    ouroboros: str | None = "year",
    source: str = "binance",
    market: str = "spot",
    include_orphaned_bars: bool = False,
    prevent_same_timestamp_close: bool = True,
    anchor: Literal["segment", "now"] | When | None = None,
    verbose: bool | None = None,
    cache_dir: Path | str | None = None,
    dsn: str | None = None,
    ouroboros_mode: str | None = None,
    takeover: bool = False,
    partial_every: str | timedelta | None = None,
) -> LiveBars:
    """Stream bars of symbols while their trades arrive.

    Each frame holds one or more ended bars of one symbol. They are the bars that a population of the
    same trades gives, bit for bit: trades are stored before they are used, and no bar is delivered
    across missing trades. Connections start at the call, in a thread; `close`, the end of a `with`
    block, and garbage collection stop it.

    Parameters
    ----------
    symbol
        One or several symbols.
    threshold
        One or several thresholds in decimal basis points, or presets.
    since
        A date or zoned datetime from which bars are delivered first; by default, bars that end after
        the symbol is live.
    until
        Where iteration ends, once a trade at or after it has arrived.
    features
        "core", "microstructure", or names of its columns.
    ouroboros
        Where bars start again: "year", "month", "week", "day", or None.
    source, market
        Where the symbol is traded. Of the built-in sources, `"binance"` has a stream.
    include_orphaned_bars
        Whether bars are included that a reset ended, with the columns `is_closed` and `ended_by`.
    prevent_same_timestamp_close
        Whether a bar needs two different times to close.
    anchor
        Where the series begins: "segment", a date or zoned datetime, or "now" for bars that begin with
        the first trade that arrives; nothing is stored then.
    verbose
        Show a progress bar on a terminal, which counts bars; by default the setting `verbose`.
    cache_dir
        Folder of the store.
    dsn
        Address of the bar cache; by default, the embedded one of the store. If it exists, bars of past
        days are read from it, and those of finalized days are stored in it.
    ouroboros_mode
        The reference library's name of `ouroboros`.
    takeover
        Whether to become the writer of a symbol that another process streams, ten seconds after that
        process has ended. By default, the call waits for another writer.
    partial_every
        How often iteration gives the forming bars that have changed, such as "1s", in frames of their
        own with `is_closed` false; by default, never. They come after all bars that have ended.

    Returns
    -------
    LiveBars
        An iterable of frames, plain and async, and a context manager. The columns are `symbol`,
        `threshold`, `anchor`, those of `scan_range_bars`, `is_replay` and `is_revised`; with
        `partial_every`, also `is_closed` and `ended_by`.

    Raises
    ------
    ValueError
        An argument is not valid, or the source has no stream.
    MissingExtraError
        The extra `live` is not installed.
    RangeBarError
        The system is Windows.
    SymbolNotRegisteredError, ThresholdError
        The gate refuses a symbol, or a threshold is too low.
    LeaseError
        Another process streams one of several symbols.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> with rb.live_bars("BTCUSDT", [250, 500], since="2026-11-01") as live:  # doctest: +SKIP
    ...     for bars in live:
    ...         print(bars)
    """
    raise_if_forked("live_bars")
    require_bool(takeover=takeover)
    partial_s = None if partial_every is None else parse_interval(partial_every, "partial_every")
    symbols = [symbol] if isinstance(symbol, str) else listed(symbol)
    several = isinstance(threshold, (list, tuple))
    thresholds: list[ThresholdLike] = list(threshold) if several else [threshold]  # type: ignore[arg-type,list-item]
    if not symbols or not thresholds:
        name = "threshold" if symbols else "symbol"
        raise ValueError(with_hint(f"`{name}` is an empty list", f"name at least one {name}"))
    plan_arguments: dict[str, Any] = {
        "source": source,
        "market": market,
        "reset": reset_of(ouroboros, ouroboros_mode),
        "prevent_same_timestamp_close": prevent_same_timestamp_close,
        "anchor": anchor,
        "since": since,
        "until": until,
    }
    BarFrames([1], features, include_orphans=include_orphaned_bars)
    for module in ("websockets", "msgspec"):
        import_extra(module, "live")
    import_extra("httpcore2", "fetch")
    require_platform()
    plan = plan_live(symbols, thresholds, takes_now=True, **plan_arguments)
    frames = BarFrames(
        plan.thresholds,
        features,
        include_orphans=include_orphaned_bars,
        endings=partial_s is not None,
        since=plan.since,
        until=plan.until,
    )
    parts = LiveParts(plan, cache_dir, dsn, takes_over=takeover)
    options = DeliveryOptions("bars", "iterator", has_cursors=False)
    iterator = BarIterator(options, frames, parts)
    is_verbose = settings(verbose=verbose).verbose
    parts.open(iterator)
    return LiveBars(parts, frames, iterator, verbose=is_verbose, partial_s=partial_s)


class LiveBars:
    """Bars of symbols while their trades arrive: an iterable, plain and async, and a context manager.

    `live_bars` makes it.
    """

    def __init__(
        self,
        parts: LiveParts,
        frames: BarFrames,
        iterator: BarIterator,
        *,
        verbose: bool = False,
        partial_s: float | None = None,
    ) -> None:
        self._parts, self._frames, self._iterator = parts, frames, iterator
        self._forming = FormingBars(parts, frames, partial_s)
        self._shown = ExitStack()
        what = f"live {', '.join(parts.plan.symbols)}"
        self._count = self._shown.enter_context(progress(None, what, "bar", verbose=verbose))
        self._thread = threading.Thread(
            target=parts.run_all, args=(iterator,), name="rangebar-live", daemon=True
        )
        self._end = weakref.finalize(self, _close, parts, iterator, self._thread, self._shown)
        self._thread.start()

    def __repr__(self) -> str:
        plan = self._parts.plan
        thresholds = ", ".join(map(str, plan.thresholds))
        return f"<live bars of {', '.join(plan.symbols)} at {thresholds} dbps>"

    @property
    def schema(self) -> pl.Schema:
        """Columns and data types of the frames."""
        return self._frames.schema

    # Plain

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[pl.DataFrame]:
        return self

    def __next__(self) -> pl.DataFrame:
        while True:
            try:
                frame = self._iterator.take(self._forming.wait_s(LOOK_S))
            except TimeoutError:
                self._raise_if_failed()
                forming = self._forming.take()
                if forming is not None:
                    return forming
                continue
            if frame is None:
                raise StopIteration
            self._forming.drop()
            self._count(frame.height)
            return frame

    def collect(self, n: int, *, timeout: float | None = None) -> pl.DataFrame:
        """Wait for a number of bars, and return them as one frame.

        Parameters
        ----------
        n
            Number of bars. There may be more: frames are not cut.
        timeout
            Longest time to wait, in seconds. What has arrived until then is returned.
        """
        count = count_of(n)
        end = None if timeout is None else clock.monotonic() + timeout
        found, rows = [self.schema.to_frame()], 0
        while rows < count:
            left = LOOK_S if end is None else min(LOOK_S, max(0.0, end - clock.monotonic()))
            try:
                frame = self._iterator.take(left)
            except TimeoutError:
                self._raise_if_failed()
                if end is not None and clock.monotonic() >= end:
                    break
                continue
            if frame is None:
                break
            found.append(frame)
            rows += frame.height
            self._count(frame.height)
        return pl.concat(found)

    def close(self) -> None:
        """Stop the work. It ends within five seconds."""
        self._end()

    def _raise_if_failed(self) -> None:
        failure = self._parts.failure
        if failure:
            raise RangeBarError(with_hint(f"no symbol can be streamed: {failure}", _FAILED_HINT))

    # Async

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self.close)

    def __aiter__(self) -> AsyncIterator[pl.DataFrame]:
        return self

    async def __anext__(self) -> pl.DataFrame:
        while True:
            try:
                frame = await self._iterator.take_async(self._forming.wait_s(LOOK_S))
            except TimeoutError:
                self._raise_if_failed()
                forming = await asyncio.to_thread(self._forming.take)
                if forming is not None:
                    return forming
                continue
            if frame is None:
                raise StopAsyncIteration
            self._forming.drop()
            self._count(frame.height)
            return frame

    # What is going on

    def partial(self) -> pl.DataFrame:
        """Return the forming bars, one row for each symbol and threshold that has one."""
        return pl.concat([self._frames.schema.to_frame(), *self._parts.partial(self._frames)])

    def status(self) -> list[dict[str, Any]]:
        """Return the status of each symbol, as `/health` shows it."""
        return self._parts.statuses()


_FAILED_HINT = "`status()` says more; it is tried again every ten minutes"


def _close(
    parts: LiveParts, iterator: BarIterator, thread: threading.Thread, shown: ExitStack
) -> None:
    shown.close()
    parts.stop()
    iterator.abort()
    if thread is not threading.current_thread():
        thread.join(clock.real_seconds(CLOSE_S))
    parts.clean_up()
