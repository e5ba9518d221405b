"""A local copy of a state is complete or not used, and never overrules published units."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
import zlib
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rangebar_polars._files.disk import Disk
from rangebar_polars._files.failpoints import on_failpoint
from rangebar_polars.bar_series.identity import BarRules, BarSpec
from rangebar_polars.bar_series.units import Unit
from rangebar_polars.populate.local_checkpoint import (
    LocalCheckpoint,
    LocalCheckpointWarning,
    forget_local,
    list_local,
    local_path,
    read_local,
    state_from_local,
    write_local,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rangebar_polars._files.failpoints import Step
    from rangebar_polars.bar_series.identity import BarSeries

SPEC = BarSpec.of("BTCUSDT", 250)
SERIES = SPEC.series(date(2024, 1, 1))
STATE = b"\x00state after the day\xff" * 3


def unit(day: int = 5, series: BarSeries = SERIES, **changes: object) -> Unit:
    """Make a published day of January."""
    made = Unit(
        series=series,
        day=date(2024, 1, day),
        generation=0,
        attempt=2**63 + day,
        built_on=day,
        fencing=1,
        tick_first_id=day * 100,
        tick_last_id=day * 100 + 99,
        tick_hash=f"ticks of {day}",
        rows=7,
        orphan_rows=0,
        row_hash_sum=1,
        first_close_us=1,
        last_close_us=2,
        feature_groups=frozenset({"core"}),
    )
    return replace(made, **changes)  # type: ignore[arg-type]


def unused(folder: Path, series: BarSeries = SERIES) -> str:
    """Return why a copy is not used."""
    with pytest.warns(LocalCheckpointWarning) as caught:
        assert read_local(folder, series) is None
    assert len(caught) == 1
    return str(caught[0].message)


# Round trips


def test_a_copy_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_local(tmp_path, unit(), STATE)
    found = read_local(tmp_path, SERIES)
    assert found == LocalCheckpoint.of(unit(), STATE)
    assert found.state == STATE
    assert state_from_local(tmp_path, unit()) == STATE


@pytest.mark.parametrize(
    "series",
    [
        BarSpec.of("EURUSD", 50, source="exness", reset="week").series(date(2024, 3, 4)),
        BarSpec.of("BTCUSDT", 250, reset=None).series(datetime(2024, 1, 1, 7, 30, tzinfo=UTC)),
        BarSpec.of(
            "BTCUSDT",
            250,
            market="um",
            rules=BarRules(prevent_same_timestamp_close=False, max_gap_us=9),
        ).series(date(2024, 1, 1)),
    ],
    ids=str,
)
def test_every_kind_of_series_has_a_copy_of_its_own(tmp_path: Path, series: BarSeries) -> None:
    write_local(tmp_path, unit(), STATE)
    write_local(tmp_path, unit(series=series, tick_first_id=None, tick_last_id=None), b"other")
    assert read_local(tmp_path, series).series == series
    assert read_local(tmp_path, SERIES).state == STATE
    assert {one.state for one in list_local(tmp_path)} == {STATE, b"other"}


def test_series_that_differ_in_the_anchor_alone_do_not_share_a_copy(tmp_path: Path) -> None:
    later = SPEC.series(date(2024, 1, 2))
    write_local(tmp_path, unit(), STATE)
    write_local(tmp_path, unit(series=later), b"later")
    assert read_local(tmp_path, SERIES).state == STATE


def test_a_newer_copy_takes_the_place_of_an_older_one(tmp_path: Path) -> None:
    write_local(tmp_path, unit(5), STATE)
    write_local(tmp_path, unit(6), b"six")
    assert read_local(tmp_path, SERIES).day == date(2024, 1, 6)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_no_copy_is_no_fault(tmp_path: Path) -> None:
    assert read_local(tmp_path, SERIES) is None
    assert forget_local(tmp_path, SERIES) is False
    assert list_local(tmp_path) == []


def test_a_copy_that_is_forgotten_is_gone(tmp_path: Path) -> None:
    write_local(tmp_path, unit(), STATE)
    assert forget_local(tmp_path, SERIES) is True
    assert read_local(tmp_path, SERIES) is None


def test_the_folder_is_that_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path))
    write_local(None, unit(), STATE)
    assert read_local(tmp_path, SERIES).state == STATE
    assert local_path(None, SERIES).parent == tmp_path / "checkpoints"


# Units overrule the copy


@pytest.mark.parametrize(
    "newest",
    [
        unit(6),
        unit(4),
        unit(attempt=9),
        unit(generation=1),
        unit(tick_hash="other ticks"),
        unit(tick_last_id=598),
    ],
    ids=["behind", "ahead", "attempt", "generation", "ticks", "last id"],
)
def test_a_copy_that_contradicts_the_newest_unit_is_not_used(tmp_path: Path, newest: Unit) -> None:
    write_local(tmp_path, unit(5), STATE)
    assert state_from_local(tmp_path, newest) is None
    assert state_from_local(tmp_path, unit(5)) == STATE


def test_a_copy_of_another_version_of_the_package_is_of_the_same_unit(tmp_path: Path) -> None:
    # The processor decides whether it can read the state.
    older = replace(LocalCheckpoint.of(unit(), STATE), code_version="0.0.1")
    assert older.is_of(unit())


# Damage


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return the file of a copy."""
    write_local(tmp_path, unit(), STATE)
    return local_path(tmp_path, SERIES)


def test_a_copy_cut_at_any_byte_is_not_used(kept: Path, tmp_path: Path) -> None:
    whole = kept.read_bytes()
    for length in range(len(whole)):
        kept.write_bytes(whole[:length])
        assert "it is damaged" in unused(tmp_path), length
    kept.write_bytes(whole)
    assert read_local(tmp_path, SERIES) is not None


def test_a_copy_with_any_bit_turned_is_not_used(kept: Path, tmp_path: Path) -> None:
    whole = kept.read_bytes()
    for place in range(len(whole)):
        turned = bytearray(whole)
        turned[place] ^= 1 << (place % 8)
        kept.write_bytes(turned)
        unused(tmp_path)


@pytest.mark.parametrize("more", [b"\n", b"x", b"\0" * 512])
def test_a_copy_with_something_behind_it_is_not_used(
    kept: Path, tmp_path: Path, more: bytes
) -> None:
    kept.write_bytes(kept.read_bytes() + more)
    unused(tmp_path)


def test_a_copy_of_another_format_is_not_used(kept: Path, tmp_path: Path) -> None:
    kept.write_bytes(kept.read_bytes().replace(b"checkpoint 1 ", b"checkpoint 2 ", 1))
    assert "another version wrote it (2)" in unused(tmp_path)


def test_a_copy_under_the_name_of_another_series_is_not_used(kept: Path, tmp_path: Path) -> None:
    other = SPEC.series(date(2024, 1, 2))
    kept.rename(local_path(tmp_path, other))
    assert "it belongs to BTCUSDT" in unused(tmp_path, other)


@pytest.mark.parametrize("change", [{"state": "="}, {"day": "never"}, {"series": {}}, {"more": 1}])
def test_a_copy_with_a_missing_value_is_not_used(
    kept: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    first, _, body = kept.read_bytes().partition(b"\n")
    changed = json.dumps(json.loads(body) | change).encode()
    words = first.rsplit(b" ", 2)[0]
    kept.write_bytes(words + f" {len(changed)} {zlib.crc32(changed):08x}\n".encode() + changed)
    assert "a value is missing" in unused(tmp_path)


def test_a_copy_that_cannot_be_read_is_not_used(tmp_path: Path) -> None:
    local_path(tmp_path, SERIES).mkdir(parents=True)
    assert str(local_path(tmp_path, SERIES)) in unused(tmp_path)


# Interrupted writes


def kill_at_each_step(folder: Path) -> Iterator[tuple[str, int]]:
    """Write a newer copy in a child process, killed at each step in turn."""
    steps: list[Step] = []
    with on_failpoint(steps.append):
        write_local(folder / "steps", unit(5), STATE)
    for step in steps:
        write_local(folder / step.name, unit(5), STATE)
        child = os.fork()
        if not child:

            def kill(reached: Step, step: Step = step) -> None:
                if reached is step:
                    os.kill(os.getpid(), signal.SIGKILL)

            with on_failpoint(kill):
                write_local(folder / step.name, unit(6), b"six")
            os._exit(0)
        yield step.name, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.skipif(sys.platform == "win32", reason="processes are not forked there")
def test_a_kill_while_writing_leaves_the_old_copy_or_the_new_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import test_local_checkpoint as here\n"
        "for name, code in here.kill_at_each_step(Path(sys.argv[1])): print(name, code)"
    )
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = dict(line.split() for line in done.stdout.splitlines())
    assert len(ended) >= 6
    assert set(ended.values()) == {str(-signal.SIGKILL)}
    for name in ended:
        found = read_local(tmp_path / name, SERIES)
        is_new = name in {"LINKED", "PLACE_SYNCED"}
        assert found == LocalCheckpoint.of(*((unit(6), b"six") if is_new else (unit(5), STATE)))
        write_local(tmp_path / name, unit(7), b"seven")
        assert read_local(tmp_path / name, SERIES).state == b"seven"


def test_bytes_reach_the_medium_before_the_name(tmp_path: Path) -> None:
    done: list[str] = []

    class Recorder(Disk):
        def sync(self, file: int) -> None:
            done.append("bytes")
            super().sync(file)

        def sync_folder(self, path: Path) -> None:
            done.append("folder")
            super().sync_folder(path)

    with on_failpoint(lambda step: done.append(step.name)):
        write_local(tmp_path, unit(), STATE, disk=Recorder())
    places = [done.index(name) for name in ("TEMP_WRITTEN", "bytes", "LINKED", "folder")]
    assert places == sorted(places)


@pytest.mark.skipif(sys.platform == "win32", reason="open files are not replaced there")
def test_a_reader_sees_the_whole_old_copy_while_a_newer_one_is_written(
    tmp_path: Path, kept: Path
) -> None:
    whole = kept.read_bytes()
    with kept.open("rb") as reader:
        write_local(tmp_path, unit(6), b"six")
        assert reader.read() == whole


def test_files_of_a_killed_writer_are_removed_later(tmp_path: Path, kept: Path) -> None:
    left = kept.parent / f".{kept.name}.123.abcdef01.tmp"
    left.write_bytes(b"half")
    write_local(tmp_path, unit(6), STATE)
    assert left.exists()  # its writer may be alive
    os.utime(left, (0, 0))
    write_local(tmp_path, unit(7), STATE)
    assert not left.exists()


def test_a_full_disk_costs_the_new_copy_and_nothing_else(tmp_path: Path, kept: Path) -> None:
    class Full(Disk):
        def write(self, file: int, data: memoryview) -> None:
            raise OSError(28, "No space left on device")

    with pytest.warns(LocalCheckpointWarning, match="No space left") as caught:
        write_local(tmp_path, unit(6), b"six", disk=Full())
    assert str(kept) in str(caught[0].message)
    assert read_local(tmp_path, SERIES).state == STATE
    assert list(kept.parent.iterdir()) == [kept]


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("in the way")
    with pytest.warns(LocalCheckpointWarning, match="could not be written"):
        write_local(tmp_path, unit(), STATE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LocalCheckpointWarning)
        assert read_local(tmp_path, SERIES) is None
