"""Live bars over loopback: figures are ratios of one run, or numbers of a process of their own.

    python benches/live.py                    all rows, some minutes
    python benches/live.py --only push        some of them
    python benches/live.py --seconds 5        quicker, and less true

An exchange in a process of its own streams generated trades. *Bare* is a loop over `recv` of
websockets and a decoder of msgspec, with the same stream in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Iterator

    import polars as pl

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # PYTHONSAFEPATH leaves it out

SYMBOL = "BTCUSDT"
THRESHOLDS = (250, 500, 750, 1000)
MEGABYTE = 1e6


class Process:
    """A process that answers lines."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )
        self.first = self._line()

    def _line(self) -> str:
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError(f"a process has ended with {self._process.wait()}")
        return line.strip()

    def begin(self, line: str) -> None:
        """Send a line."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """Wait for the answer to a line."""
        return json.loads(self._line())

    def ask(self, line: str) -> Any:
        """Send a line, and return the answer."""
        self.begin(line)
        return self.end()

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()

    def kill(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Bench:
    """What the rows of the table share."""

    folder: Path
    rounds: int
    seconds: float
    rows: int

    @contextmanager
    def exchange(self, symbols: int = 1, per_bar: int = 100, past: int = 10) -> Iterator[Stream]:
        """An exchange whose bars of 250 dbps end every `per_bar` trades, with `past` trades of today."""
        words = [str(HERE / "live_exchange.py"), str(symbols), str(per_bar), str(past)]
        with ExitStack() as stack:
            server = Process(words, {})
            stack.callback(server.close)
            with tempfile.TemporaryDirectory(dir=self.folder) as cache:
                yield Stream(server, symbols, Path(cache), stack)
                stack.close()


@dataclass(frozen=True)
class Stream:
    """An exchange, and the processes that use it."""

    server: Process
    symbols: int
    cache: Path
    stack: ExitStack

    @property
    def names(self) -> tuple[str, ...]:
        """The symbols."""
        from live_exchange import SYMBOLS

        return SYMBOLS[: self.symbols]

    @property
    def environment(self) -> dict[str, str]:
        """Settings of the processes."""
        address = f"127.0.0.1:{self.server.first}"
        return {
            "RANGEBAR_BINANCE_REST_URL": f"http://{address}",
            "RANGEBAR_BINANCE_ARCHIVE_URL": f"http://{address}",
            "RANGEBAR_BINANCE_STREAM_URL": f"ws://{address}",
            "RANGEBAR_CACHE_DIR": str(self.cache),
            "RANGEBAR_HTTP_TRIES": "2",
            "POLARS_MAX_THREADS": "1",
            **{f"RANGEBAR_MIN_THRESHOLD_{name}": "250" for name in self.names},
        }

    def start(self, kind: str, **options: Any) -> Process:
        """Start a measured process, and wait until it receives the stream."""
        words = [str(HERE / "live_process.py"), kind, json.dumps(options)]
        process = Process(words, self.environment)
        self.stack.callback(process.close)
        return process

    def bare(self, *, keeps: bool) -> Process:
        """Start the bare loop; `keeps` the delays of its messages."""
        names = "/".join(f"{name.lower()}@aggTrade" for name in self.names)
        return self.start(
            "bare", url=f"ws://127.0.0.1:{self.server.first}/stream?streams={names}", keeps=keeps
        )

    def sidecar(self, thresholds: tuple[int, ...] = THRESHOLDS, **options: Any) -> Process:
        """Start a sidecar, and wait until it is live."""
        own = {"cache": False, "finalize": False, "health_port": 0, "notify": "off"}
        return self.start(
            "sidecar", symbols=self.names, thresholds=thresholds, **{**own, **options}
        )

    def flooded(self, process: Process, messages: int) -> dict[str, Any]:
        """Send messages as fast as they are taken, and return what was measured."""
        process.ask("reset")
        self.server.ask(f"flood {messages}")
        wait_for(lambda: process.ask("count") >= messages)
        return process.ask("values")

    def streamed(self, process: Process, rate: float, seconds: float) -> dict[str, Any]:
        """Send messages at a rate of each symbol, and return what was measured."""
        process.ask("reset")
        self.server.ask(f"send {rate} {seconds}")
        time.sleep(0.5)
        return process.ask("values")


def wait_for(condition: Callable[[], bool], limit_s: float = 600.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("the measured process does not receive what is sent")
        time.sleep(0.02)


def milliseconds(delays_us: list[int]) -> tuple[float, float]:
    """Median and 99th percentile."""
    if len(delays_us) < 2:
        raise RuntimeError("too few bars were delivered")
    return median(delays_us) / 1e3, quantiles(delays_us, n=100, method="inclusive")[98] / 1e3


def spread(values: list[float], digits: int = 2) -> str:
    """The median of values, and their range."""
    low, high = min(values), max(values)
    return f"{median(values):.{digits}f} ({low:.{digits}f} … {high:.{digits}f})"


# Rows


def push(bench: Bench) -> str:
    """Push trades in which no bar ends to four series, and to four builders."""
    from timing import here, interleave, typical

    import rangebar_polars as rb
    from rangebar_polars.bar_series.days import new_builder
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.bar_series.live_builders import LiveBuilders
    from rangebar_polars.storage.live.journal import encode_frame

    found = []
    for rows in (1, 100):
        specs = [BarSpec.of(SYMBOL, threshold) for threshold in THRESHOLDS]
        builders = LiveBuilders([new_builder(spec).checkpoint() for spec in specs])
        others = [rb.RangeBarBuilder(threshold) for threshold in THRESHOLDS]
        # One sample more than the rounds, which does not count.
        frames = [quiet_trades(number * rows, rows) for number in range(200 * (bench.rounds + 1))]
        records, pushed = iter([encode_frame(frame) for frame in frames]), iter(frames)

        def push_record(builders: Any = builders, records: Any = records) -> None:
            builders.push(next(records))

        def push_all(builders: Any = others, frames: Any = pushed) -> None:
            frame = next(frames)
            for builder in builders:
                builder.push(frame)

        sides = (here(push_record, repeats=200), here(push_all, repeats=200))
        timed = interleave(*sides, bench.rounds)
        found.append(
            f"{rows} trades {typical(timed.ours) * 1e6:.1f} µs against "
            f"{typical(timed.other) * 1e6:.0f} µs of four `RangeBarBuilder.push` "
            f"({median(timed.costs()):.3f} ×)"
        )
    return "; ".join(found)


def quiet_trades(first: int, rows: int) -> pl.DataFrame:
    """Trades of one price."""
    import polars as pl

    from rangebar_polars.sources import TRADES_SCHEMA

    ids = pl.int_range(first + 1, first + rows + 1, eager=True)
    columns = dict.fromkeys(TRADES_SCHEMA, ids)
    columns |= {"price": pl.repeat(40_000.0, rows, eager=True)}
    columns |= {"is_buyer_maker": pl.repeat(True, rows, dtype=pl.Boolean, eager=True)}
    return pl.DataFrame(columns).cast(dict(TRADES_SCHEMA))  # type: ignore[arg-type]


def sustained(bench: Bench, symbols: int, thresholds: tuple[int, ...], messages: int) -> str:
    """Messages a CPU second, against the bare loop."""
    speeds, ours, others = [], [], []
    for _ in range(bench.rounds):
        with bench.exchange(symbols, per_bar=2_000) as stream:
            bare = stream.flooded(stream.bare(keeps=False), messages)["cpu"]
        with bench.exchange(symbols, per_bar=2_000) as stream:
            own = stream.flooded(stream.sidecar(thresholds), messages)["cpu"]
        speeds.append(bare / own)
        ours.append(messages / own)
        others.append(messages / bare)
    return (
        f"{spread(speeds)} × the bare loop, "
        f"{median(ours):,.0f} messages a CPU second against {median(others):,.0f}"
    )


def delay(bench: Bench, rate: float, per_bar: int) -> str:
    """From the sending of a message to the callback, less that of the bare loop."""
    middles, tails, counts = [], [], 0
    for _ in range(bench.rounds):
        with bench.exchange(per_bar=per_bar) as stream:
            bare = stream.streamed(stream.bare(keeps=True), rate, bench.seconds)["delays"]
        with bench.exchange(per_bar=per_bar) as stream:
            bars = stream.streamed(stream.sidecar(), rate, bench.seconds)["bars"]
        counts += len(bars)
        (middle, tail), (bare_middle, bare_tail) = (
            milliseconds([one[2] for one in bars]),
            milliseconds(bare),
        )
        middles.append(middle - bare_middle)
        tails.append(tail - bare_tail)
    return f"p50 {spread(middles)} ms, p99 {spread(tails)} ms, {counts:,} bars"


def load(bench: Bench, symbols: int, rate: float, per_bar: int, thresholds: tuple[int, ...]) -> str:
    """CPU of a core."""
    found = []
    for _ in range(bench.rounds):
        with bench.exchange(symbols, per_bar=per_bar) as stream:
            values = stream.streamed(stream.sidecar(thresholds), rate, bench.seconds)
            found.append(values["cpu"] / values["wall"])
    return f"{spread(found, 3)} of a core"


def memory(bench: Bench) -> str:
    """Memory above the import of Polars after 200 000 messages and after a million."""
    with bench.exchange(per_bar=2_000) as stream:
        sidecar = stream.sidecar()
        first = stream.flooded(sidecar, 200_000)["resident"] / MEGABYTE
        last = stream.flooded(sidecar, 800_000)["resident"] / MEGABYTE
    return f"{first:.0f} MB after 200 000 messages, {last - first:+.0f} MB to 1 M"


def helper_memory(bench: Bench) -> str:
    """Peak of the helper, which populates five days of four series."""
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.live.helper.client import Helper
    from rangebar_polars.live.helper.messages import series_values
    from rangebar_polars.storage.parquet import TickStorage
    from storage import FIRST, day_ticks

    with tempfile.TemporaryDirectory(dir=bench.folder) as folder:
        storage = TickStorage(folder)
        days = [FIRST + timedelta(days=number) for number in range(6)]
        for number, day in enumerate(days):
            item = day_ticks(day, bench.rows, 10**9 + number * bench.rows)
            storage.put_days(SYMBOL, [item])
        thresholds = ",".join(map(str, THRESHOLDS))
        words = ["populate", SYMBOL, str(days[0]), str(days[0]), "-t", thresholds]
        subprocess.run(
            [sys.executable, "-m", "rangebar_polars", *words, "--cache-dir", folder],
            check=True,
            capture_output=True,
        )
        series = [BarSpec.of(SYMBOL, threshold).series(days[0]) for threshold in THRESHOLDS]
        with tempfile.TemporaryFile() as errors:
            helper = Helper(folder)
            try:
                answer = helper.call(
                    "prepare",
                    {
                        "series": [series_values(one) for one in series],
                        "last_day": days[-1].isoformat(),
                        "fills": True,
                    },
                )
                process = helper.process_id
                text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
            finally:
                helper.close()
            del errors
    peak = re.search(r"VmHWM:\s+(\d+) kB", text)
    reached = {base and base["day"] for base in answer.values["bases"]}
    if peak is None or reached != {days[-1].isoformat()}:
        raise RuntimeError(f"the helper has reached {reached}")
    return f"peak {int(peak[1]) * 1024 / MEGABYTE:.0f} MB"


def store_journals(folder: Path, times: array[int], per_bar: int) -> Any:
    """Write trades of today as journals, as a sidecar does; return the folder of the symbol."""
    from live_exchange import FIRST_ID, price

    from rangebar_polars.live.protocol.trades import Trade, TradeColumns
    from rangebar_polars.storage.live.journal import LiveJournal
    from rangebar_polars.storage.parquet import TickStorage

    symbol_dir = TickStorage(folder).symbol_dir(SYMBOL, "binance", "spot")
    day = datetime.fromtimestamp(times[0] // 1_000_000, UTC).date()
    with LiveJournal(symbol_dir, day=day, applied_id=FIRST_ID - 1) as journal:
        for begin in range(0, len(times), 100):
            trades = TradeColumns(
                [
                    Trade(
                        times[at], price(FIRST_ID + at, per_bar), 0.01, *[FIRST_ID + at] * 3, True
                    )
                    for at in range(begin, min(begin + 100, len(times)))
                ]
            )
            journal.append_trades(day, trades)
            if begin % 100_000 == 0:
                journal.sync()
    return symbol_dir


def put_day(folder: Path, symbol_dir: Any) -> Any:
    """Put the trades of journals into a store as a day file; return the store and the day."""
    import polars as pl

    from rangebar_polars.day_ticks import DayTicks, Origin
    from rangebar_polars.storage.live.journal_file import list_journals, read_journal
    from rangebar_polars.storage.parquet import TickStorage

    contents = [read_journal(symbol_dir, file) for file in list_journals(symbol_dir)]
    trades = pl.concat([one.trades for one in contents if one is not None])
    day = trades.item(0, "timestamp").date()
    storage = TickStorage(folder)
    storage.put_days(SYMBOL, [DayTicks(day, trades, Origin(kind="rest"))])
    return storage, day


def restart(bench: Bench) -> str:
    """Start of a process that was killed, with a day of journals and ids that it has missed."""
    from live_exchange import FIRST_ID, past_times
    from timing import here, interleave, typical

    from rangebar_polars import _internal
    from rangebar_polars.bar_series.identity import BarSpec
    from rangebar_polars.live.series import fresh_state
    from rangebar_polars.populate.local_checkpoint import LocalCheckpoint, write_live

    missed, per_bar, took = 5_000, 2_000, []
    with bench.exchange(per_bar=per_bar, past=bench.rows + missed) as stream:
        times = past_times(bench.rows + missed)
        symbol_dir = store_journals(stream.cache, times[: bench.rows], per_bar)
        today = datetime.now(UTC).date()
        for threshold in THRESHOLDS:
            spec = BarSpec.of(SYMBOL, threshold)
            series = spec.series(datetime(today.year, 1, 1, tzinfo=UTC))
            day = today - timedelta(days=1)
            state, version = fresh_state(spec), _internal.__version__
            checkpoint = LocalCheckpoint(series, day, 0, 0, FIRST_ID - 1, "", state, version)
            write_live(stream.cache, checkpoint)
        with tempfile.TemporaryDirectory(dir=bench.folder) as other:
            storage, day = put_day(Path(other), symbol_dir)
            read = here(lambda: storage.get_ticks(SYMBOL, day, day))
            reading = typical(interleave(read, read, bench.rounds).ours)
        for _ in range(bench.rounds):
            begun = time.perf_counter()
            stream.sidecar(anchor="segment").kill()
            took.append(time.perf_counter() - begun)
    limit = 2 + 3 * reading
    return (
        f"{spread(took)} s with {bench.rows:,} trades and {missed:,} ids; "
        f"2 s + 3 × {reading:.2f} s of `get_ticks` are {limit:.2f} s"
    )


def follow(bench: Bench) -> str:
    """Bars of a follower, later than those of the writer."""
    with bench.exchange(per_bar=20) as stream:
        writer = stream.sidecar()
        reader = stream.start("follower", symbol=stream.names[0], threshold=THRESHOLDS)
        reader.ask("reset")
        first = stream.streamed(writer, 1_000, bench.seconds)["bars"]
        at = {(threshold, last_id): time_us for threshold, last_id, _, time_us in first}
        found = reader.ask("values")["bars"]
        later = [
            time_us - at[key, last_id] for key, last_id, _, time_us in found if (key, last_id) in at
        ]
    if len(later) < 0.9 * len(first):
        raise RuntimeError(f"the follower has {len(later)} of {len(first)} bars")
    middle, tail = milliseconds(later)
    return f"p50 {middle:.1f} ms, p99 {tail:.1f} ms, {len(later):,} bars"


def pause(bench: Bench) -> str:
    """The longest time between two batches while four series are computed again."""
    before, during, took = [], [], []
    for _ in range(bench.rounds):
        with bench.exchange(per_bar=2_000) as stream:
            sidecar = stream.sidecar()
            stream.flooded(sidecar, bench.rows // 4)
            stream.server.begin(f"send 1000 {2 * bench.seconds}")
            values = sidecar.ask(f"pause {bench.seconds}")
            stream.server.end()
            if not values["done"]:
                raise RuntimeError("the series were not computed again")
            before.append(values["before"] * 1e3)
            during.append(values["during"] * 1e3)
            took.append(values["seconds"])
    return (
        f"{spread(during, 0)} ms against {spread(before, 0)} ms before it, "
        f"{bench.rows // 4:,} trades in {median(took):.2f} s"
    )


def read_journals(bench: Bench) -> str:
    """Bars of today from journals, against the same from a day file."""
    import warnings

    from live_exchange import past_times
    from timing import here, interleave, typical

    import rangebar_polars as rb

    with (
        tempfile.TemporaryDirectory(dir=bench.folder) as ours,
        tempfile.TemporaryDirectory(dir=bench.folder) as other,
    ):
        times = past_times(bench.rows)
        put_day(Path(other), store_journals(Path(ours), times, 2_000))
        begin = datetime.fromtimestamp(times[0] // 1_000_000, UTC)
        end = datetime.fromtimestamp(times[-1] // 1_000_000, UTC)

        def bars(folder: str) -> Any:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                options: dict[str, Any] = {"use_cache": False, "fetch_if_missing": False}
                return rb.get_range_bars(
                    SYMBOL, begin, end, 250, anchor=begin, cache_dir=folder, **options
                )

        if not len(bars(ours)) or not bars(ours).equals(bars(other)):
            raise RuntimeError("journals and day file give different bars")
        timed = interleave(here(lambda: bars(ours)), here(lambda: bars(other)), bench.rounds)
    return (
        f"{spread(timed.costs())} ×, by CPU {median(timed.costs('cpu')):.2f} ×, "
        f"{typical(timed.ours) * 1e3:.0f} ms against {typical(timed.other) * 1e3:.0f}"
    )


def compact(bench: Bench) -> str:
    """A closed day of journals into its day file, against `put_days` of the same trades."""
    import shutil

    from live_exchange import past_times
    from timing import here, interleave, typical

    from rangebar_polars.day_ticks import DayTicks, Origin
    from rangebar_polars.storage.live.compact import compact_day
    from rangebar_polars.storage.parquet import TickStorage

    with (
        tempfile.TemporaryDirectory(dir=bench.folder) as ours,
        tempfile.TemporaryDirectory(dir=bench.folder) as other,
    ):
        symbol_dir = store_journals(Path(ours), past_times(bench.rows), 2_000)
        storage, day = put_day(Path(other), symbol_dir)
        trades = storage.get_ticks(SYMBOL, day, day)
        copies = iter(range(10**6))

        def compacted() -> None:
            # Each time a store in which the day has journals alone.
            folder = copied.pop()
            if not compact_day(TickStorage(folder).symbol_dir(SYMBOL, "binance", "spot"), day):
                raise RuntimeError("nothing was compacted")
            shutil.rmtree(folder)

        copied = [Path(ours) / f"copy{next(copies)}" for _ in range(bench.rounds + 1)]
        for folder in copied:
            TickStorage(folder)
            target = folder / symbol_dir.folder.relative_to(Path(ours))
            shutil.copytree(symbol_dir.folder, target)

        def put() -> None:
            shutil.rmtree(storage.root)
            storage.put_days(SYMBOL, [DayTicks(day, trades, Origin(kind="rest"))])

        timed = interleave(here(compacted), here(put), bench.rounds)
    return (
        f"{spread(timed.costs())} ×, by CPU {median(timed.costs('cpu')):.2f} ×, "
        f"{typical(timed.ours) * 1e3:.0f} ms against {typical(timed.other) * 1e3:.0f}"
    )


@dataclass(frozen=True)
class Row:
    """A row of the table."""

    work: str
    goal: str
    measure: Callable[[Bench], str]


ROWS = {
    "push": Row("push of 1 and 100 trades to four series, no bar ends", "≤ 40 µs, aim 20 µs", push),
    "sustained-1x1": Row(
        "one symbol, one threshold, all it takes",
        "≥ 0.40 × the bare loop",
        lambda bench: sustained(bench, 1, (250,), 300_000),
    ),
    "sustained-10x4": Row(
        "ten symbols, four thresholds, all they take",
        "≥ 0.25 × the bare loop",
        lambda bench: sustained(bench, 10, THRESHOLDS, 300_000),
    ),
    "delay-1000": Row(
        "delay of bars, 1 000 messages/s, less the bare loop's",
        "p50 ≤ 6 ms, p99 ≤ 20 ms",
        lambda bench: delay(bench, 1_000, 50),
    ),
    "delay-10": Row(
        "delay of bars, 10 messages/s, less the bare loop's",
        "p50 ≤ 2 ms",
        lambda bench: delay(bench, 10, 2),
    ),
    "load-1000": Row(
        "CPU at 1 000 messages/s, 1 × 4",
        "≤ 0.30",
        lambda bench: load(bench, 1, 1_000, 2_000, THRESHOLDS),
    ),
    "load-18x50": Row(
        "CPU at 18 × 50 messages/s, 18 × 4",
        "≤ 0.40",
        lambda bench: load(bench, 18, 50, 2_000, THRESHOLDS),
    ),
    "load-quiet": Row(
        "CPU of 20 quiet symbols, 1 message/s each",
        "≤ 0.02",
        lambda bench: load(bench, 20, 1, 2_000, (250,)),
    ),
    "memory": Row("memory above the import of Polars", "≤ 120 MB, then ≤ +20 MB", memory),
    "helper": Row("memory of the helper", "≤ 1 GB", helper_memory),
    "restart": Row("from a kill to live", "≤ 2 s + 3 × `get_ticks` of the day", restart),
    "follow": Row("a follower behind its writer, 1 000 messages/s", "p99 ≤ 100 ms", follow),
    "pause": Row("pause of applying by a revision", "≤ 50 ms", pause),
    "read": Row("bars of today from journals, against Parquet", "≤ 1.3 ×", read_journals),
    "compact": Row("compact a day, against `put_days`", "≤ 2 ×", compact),
}


def main() -> int:
    """Measures what was asked for."""
    from timing import require_release

    require_release()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(ROWS))
    parser.add_argument("--rows", type=int, default=2_000_000, help="trades of a day")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10.0, help="of a stream")
    given = parser.parse_args()
    os.environ["RANGEBAR_SYMBOL_GATE"] = "off"
    with tempfile.TemporaryDirectory(dir=Path.home() / ".cache") as folder:
        bench = Bench(Path(folder), given.rounds, given.seconds, given.rows)
        for name in given.only or ROWS:
            row = ROWS[name]
            print(f"{row.work}: {row.measure(bench)}; {row.goal}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
