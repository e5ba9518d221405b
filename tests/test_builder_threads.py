"""One builder, several threads and processes: every push is taken once, in some order."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.exceptions import TickDataError
from rangebar_polars.exness import ExnessRangeBarBuilder

if TYPE_CHECKING:
    from collections.abc import Mapping

ROWS = 20_000
START = datetime(2024, 1, 1, tzinfo=UTC)


def piece(rows: int = ROWS, key: str | None = None) -> pl.DataFrame:
    """Trades of one instant at one price, so that pieces may come in any order."""
    frame = pl.DataFrame(
        {"timestamp": [START] * rows, "price": [100.0] * rows, "quantity": [1.0] * rows}
    )
    return frame if key is None else frame.with_columns(key=pl.lit(key))


class Rendezvous:
    """A request that lets nobody push before `parties` threads have bound a builder to columns."""

    def __init__(self, request: Any, parties: int) -> None:
        self._request = request
        self._barrier = threading.Barrier(parties)

    def bind(self, schema: Mapping[str, pl.DataType], **options: Any) -> Any:
        bound = self._request.bind(schema, **options)
        self._barrier.wait(timeout=300)
        return bound


def forming_records(builder: rb.RangeBarBuilder) -> int:
    partial = builder.partial()
    return sum(partial["agg_record_count"].to_list()) if partial.width else 0


@pytest.mark.parametrize("threads", [2, 5])
def test_no_first_push_is_lost(threads: int) -> None:
    builder = rb.RangeBarBuilder(100_000)
    builder._request = Rendezvous(builder._request, threads)
    with ThreadPoolExecutor(threads) as pool:
        pushes = [pool.submit(builder.push, piece(10 + number)) for number in range(threads)]
    assert all(push.result().is_empty() for push in pushes)
    assert forming_records(builder) == sum(10 + number for number in range(threads))


def test_a_refused_first_push_leaves_the_columns_to_the_next() -> None:
    builder = rb.RangeBarBuilder(100_000)
    with pytest.raises(TickDataError):
        builder.push(piece(3).with_columns(price=pl.lit(-1.0)))
    builder.push(piece(3).drop("quantity"))
    assert builder.partial()["volume"].null_count() == 1


@pytest.mark.parametrize("key", [None, "a long name of a key"])
def test_threads_push_and_look_at_once(key: str | None) -> None:
    builder = rb.RangeBarBuilder(100_000, group_by=None if key is None else "key")
    part, pushes, threads = piece(key=key), 25, 3
    is_done = threading.Event()

    def push() -> None:
        for _ in range(pushes):
            builder.push(part)

    def look() -> int:
        looks, before = 0, 0
        while not is_done.is_set():
            saved = rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
            counts = [forming_records(saved), forming_records(copy.copy(builder))]
            counts.append(forming_records(builder))
            # Every look sees whole pushes, and later looks see no fewer.
            assert all(count % ROWS == 0 for count in counts)
            assert [before, *counts] == sorted([before, *counts])
            before, looks = counts[-1], looks + 1
        return looks

    with ThreadPoolExecutor(threads + 2) as pool:
        watchers = [pool.submit(look) for _ in range(2)]
        writers = [pool.submit(push) for _ in range(threads)]
        try:
            for writer in writers:
                writer.result()
        finally:
            is_done.set()
        assert all(watcher.result() > 0 for watcher in watchers)
    assert forming_records(builder) == threads * pushes * ROWS


def test_quotes_of_several_threads_keep_their_spreads() -> None:
    builder = ExnessRangeBarBuilder("EURUSD", 100_000)
    quotes = pl.DataFrame(
        {"timestamp_ms": [1_704_067_200_000] * 500, "bid": [1.0] * 500, "ask": [1.0002] * 500}
    )
    with ThreadPoolExecutor(4) as pool:
        for push in [pool.submit(builder.push, quotes) for _ in range(40)]:
            push.result()
    assert builder.partial().select("agg_record_count", "spread_avg").row(0) == (20_000, 0.0002)
    twin = copy.copy(builder)
    twin.push(quotes)
    assert twin.partial()["agg_record_count"].item() == 20_500
    assert builder.partial()["agg_record_count"].item() == 20_000


# A forked child reports in which state its copy of the builder was; its alarm ends one that hangs.
# It has no threads of Polars, so its frames are made by the parent.
FORKING = """
import os, signal, sys, threading
import polars as pl
import rangebar_polars as rb
from rangebar_polars.exceptions import BuilderForkedError
from test_builder_threads import ROWS, forming_records, piece

small = piece(7)

def child(builder):
    signal.alarm(120)
    try:
        before = forming_records(builder)
        builder.push(small)
        after = forming_records(builder)
        rb.RangeBarBuilder.from_checkpoint(builder.checkpoint())
    except BuilderForkedError as error:
        ok = "checkpoint" in str(error)
        try:
            builder.push(small)
        except BuilderForkedError:
            return 7 if ok else 1
    return 8 if before % ROWS == 0 and after == before + 7 else 1

def forked(builder):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = child(builder)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def run(script: str) -> None:
    here = str(Path(__file__).parent)
    subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            FORKING + textwrap.dedent(script),
        ],
        env={**os.environ, "PYTHONPATH": here, "POLARS_MAX_THREADS": "1"},
        check=True,
        timeout=900,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_child_has_a_builder_of_its_own() -> None:
    run(
        """
        builder = rb.RangeBarBuilder(100_000)
        assert forked(builder) == 8
        builder.push(piece())
        assert forked(builder) == 8
        builder.push(piece())
        assert forming_records(builder) == 2 * ROWS
        """
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_builder_that_was_in_use_at_the_fork_says_so() -> None:
    run(
        """
        builder, part, is_done = rb.RangeBarBuilder(100_000), piece(), threading.Event()
        builder.push(part)

        def push():
            while not is_done.is_set():
                builder.push(part)

        threads = [threading.Thread(target=push) for _ in range(2)]
        [thread.start() for thread in threads]
        codes = set()
        # Nearly every fork meets a push.
        for _ in range(200):
            codes.add(forked(builder))
            if 7 in codes:
                break
        is_done.set()
        [thread.join() for thread in threads]
        assert 7 in codes and codes <= {7, 8}, codes
        assert forming_records(builder) % ROWS == 0
        assert forked(builder) == 8
        """
    )


def test_pieces_of_one_instant_are_taken_in_any_order() -> None:
    later = piece(5).with_columns(pl.col("timestamp") + timedelta(seconds=1))
    builder = rb.RangeBarBuilder(100_000)
    builder._request = Rendezvous(builder._request, 2)
    outcomes: list[str] = []

    def push(frame: pl.DataFrame) -> None:
        try:
            builder.push(frame)
            outcomes.append("taken")
        except TickDataError:
            outcomes.append("refused")

    threads = [threading.Thread(target=push, args=(frame,)) for frame in (piece(5), later)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whichever came first, the other one was judged against it.
    assert "taken" in outcomes
    assert forming_records(builder) == 5 * outcomes.count("taken")
