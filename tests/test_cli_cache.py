"""The commands `rangebar cache`, and a run of every command with its default arguments."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

pytest.importorskip("chdb")

from exchange import Exchange, Tape
from rangebar_polars.bar_series.identity import BAR_SEMANTICS, BarRules, BarSpec
from rangebar_polars.cli import main
from rangebar_polars.cli.cache_status import _progress, _say_notes
from rangebar_polars.clickhouse.commit.leases import RunningWriter
from rangebar_polars.clickhouse.open import open_cache, reading
from rangebar_polars.clickhouse.query.status import stored_series
from rangebar_polars.clickhouse.query.units import read_chains
from rangebar_polars.exceptions import CoverageError
from rangebar_polars.maintenance.tasks import PopulateTask
from rangebar_polars.maintenance.update import UpdateReport
from rangebar_polars.populate.populate import populate_cache_resumable
from rangebar_polars.readers.cached import count_bars, get_cached_bars
from rangebar_polars.sources import Venue
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

TAPE = Tape.generate(absent=0, archive_lacks=0)
FIRST, LAST = "2024-12-30", "2025-01-02"
SPAN = ("BTCUSDT", FIRST, LAST)
THRESHOLDS = [250, 500]
QUIET = ["--quiet", "--no-notify"]


@pytest.fixture(scope="module")
def stock() -> Iterator[Path]:
    """Return a read-only folder with ticks of four days, and bars of the first three."""
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as name:
        folder = Path(name) / "stock"
        TickStorage(folder).write_ticks("BTCUSDT", TAPE.ticks)
        populate_cache_resumable(
            "BTCUSDT", FIRST, "2025-01-01", threshold_decimal_bps=THRESHOLDS, verbose=False,
            notify=False, cache_dir=folder,
        )  # fmt: skip
        yield folder


@pytest.fixture
def kept(stock: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point the settings at the folder, and return it."""
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(stock))
    return stock


@pytest.fixture
def copied(stock: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a copy of the folder that may be changed."""
    folder = stock.parent / "copied"
    shutil.copytree(stock, folder, symlinks=True)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def table_of(text: str) -> pl.DataFrame:
    return pl.read_csv(io.StringIO(text), try_parse_dates=True)


def expected(threshold: int = 250, features: str = "core") -> pl.DataFrame:
    """Return the bars of all four days, each year by itself."""
    return TAPE.ticks.rangebar.bars(threshold, reset="year", features=features).drop("bar_id")


def before(day: str) -> pl.Expr:
    return pl.col("close_time").dt.date() < date.fromisoformat(day)


def days_of(symbol: str = "BTCUSDT", threshold: int = 250) -> list[str]:
    bars = get_cached_bars(symbol, threshold)
    return [str(day) for day in bars["close_time"].dt.date().unique().sort()]


def relabelled(folder: Path, bar_semantics: int) -> None:
    """Make the stored bars look as if another rule had computed them."""
    old = BarRules().id
    values = {
        "bars": f"toUInt64({BarRules(bar_semantics=bar_semantics).id}) AS config_id",
        "units": f"toUInt64({BarRules(bar_semantics=bar_semantics).id}) AS config_id, "
        f"toUInt32({bar_semantics}) AS bar_semantics",
    }
    with open_cache(cache_dir=folder) as cache:
        for name, replaced in values.items():
            place = cache.table(name)
            cache.command(
                f"INSERT INTO {place} SELECT * REPLACE ({replaced}) "
                f"FROM (SELECT * FROM {place} WHERE config_id = {old})"
            )
            cache.command(
                f"ALTER TABLE {place} DELETE WHERE config_id = {old} SETTINGS mutations_sync = 2"
            )


def test_status_has_a_row_for_each_series(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "status"]) == 0
    heard = capsys.readouterr()
    table = table_of(heard.out)
    assert table.select("symbol", "threshold", "segment", "units").sort(pl.all()).rows() == [
        ("BTCUSDT", 250, 2024, 2),
        ("BTCUSDT", 250, 2025, 1),
        ("BTCUSDT", 500, 2024, 2),
        ("BTCUSDT", 500, 2025, 1),
    ]
    assert "on disk" in heard.err
    assert main(["cache", "status", "ethusdt"]) == 1
    heard = capsys.readouterr()
    assert table_of(heard.out).is_empty()
    assert "no bars of ETHUSDT are cached" in heard.err


def test_coverage_has_the_state_of_each_day(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "coverage", *SPAN]) == 0
    table = table_of(capsys.readouterr().out)
    assert table["state"].to_list() == ["given", "given", "given", "missing"]
    assert main(["cache", "coverage", "BTCUSDT", "-t", "250,500"]) == 0
    table = table_of(capsys.readouterr().out)
    assert table["threshold"].to_list() == [250] * 3 + [500] * 3


def test_an_unregistered_symbol_has_no_cached_bars(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for action in ("count", "export"):
        assert main(["cache", action, "BTCUSD"]) == 1
        assert "did you mean `BTCUSDT`?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("year", "gate", "days"),
    [(2023, True, "0 days of bars stored;"), (2024, True, "2 days of bars stored, the last is "),
     (2025, True, "1 day of bars stored, the last is "), (2024, False, "0 days of bars stored;")],
)  # fmt: skip
def test_the_progress_of_a_writer_counts_the_bars_of_its_series(
    year: int, gate: bool, days: str, kept: Path
) -> None:
    with reading(cache_dir=kept) as cache:
        series = stored_series(cache)
    spec = BarSpec.of("BTCUSDT", 250, rules=BarRules(prevent_same_timestamp_close=gate))
    writer = RunningWriter(spec.series(date(year, 1, 1)).lease_key, 7, "host")
    text = _progress(writer, series, kept)
    assert text.startswith(f"running: BTCUSDT (binance/spot) at 250 dbps, year {year}: {days}")
    ticks = {2023: 0, 2024: 2, 2025: 2}[year]
    assert f"; {ticks} days of ticks (process 7 on host)" in text


@pytest.mark.parametrize(
    ("rebuilds", "sentence"), [(1, "1 rebuild is unfinished; "), (2, "2 rebuilds are unfinished; ")]
)
def test_unfinished_rebuilds_are_counted(
    rebuilds: int, sentence: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with reading(cache_dir=kept) as cache:
        series = stored_series(cache).head(1)
    _say_notes(series.with_columns(open_rebuilds=pl.lit(rebuilds)))
    assert capsys.readouterr().err.startswith(f"rangebar: {sentence}")


def test_count_is_the_number_of_closed_bars(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = expected().filter(before("2025-01-02") & ~before("2025-01-01")).height
    assert main(["cache", "count", "btcusdt"]) == 0
    assert int(capsys.readouterr().out) == count_bars("BTCUSDT", 250)
    assert main(["cache", "count", "BTCUSDT", "--before", "2025-01-01", "-t", "250,500"]) == 0
    table = table_of(capsys.readouterr().out)
    assert dict(table.rows())[250] == count_bars("BTCUSDT", 250, before="2025-01-01")
    assert count_bars("BTCUSDT", 250) >= wanted > 0


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_export_writes_the_cached_bars(
    kept: Path, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"bars{suffix}"
    wanted = expected(features="microstructure").filter(~before("2024-12-31"), before("2025-01-02"))
    monkeypatch.setattr("rangebar_polars.cli.bars.csv_text", None)
    assert main(["cache", "export", "BTCUSDT", "2024-12-31", "2025-01-01", "--out", str(out)]) == 0
    if suffix == ".parquet":
        assert_frame_equal(pl.read_parquet(out), wanted)
    else:
        found = pl.read_csv(out)
        assert found.columns == wanted.columns
        assert found["ofi"].to_list() == wanted["ofi"].to_list()


def test_export_without_a_file_is_csv_of_all_cached_bars(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "export", "BTCUSDT", "-t", "250,500", "--features", "vwap"]) == 0
    table = table_of(capsys.readouterr().out)
    assert table.columns[0] == "threshold"
    assert set(table["threshold"]) == set(THRESHOLDS)


def test_export_of_missing_days_names_the_command_that_populates_them(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export = ["cache", "export", "BTCUSDT", FIRST, "2025-01-01", "-t", "777", "--reset", "month"]
    export += ["--cache-dir", str(copied)]
    assert main(export) == 1
    heard = capsys.readouterr().err
    assert "3 days are not cached" in heard
    command = heard.partition("hint: rangebar ")[2].partition("\n")[0]
    assert main([*shlex.split(command), *QUIET]) == 0
    capsys.readouterr()
    assert main(export) == 0
    assert "not cached" not in capsys.readouterr().err


def test_update_extends_the_cached_bars(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "update", "--end", LAST, "--no-notify"]) == 0
    assert "1 of 1 days written" in capsys.readouterr().out
    for threshold in THRESHOLDS:
        assert_frame_equal(
            get_cached_bars("BTCUSDT", threshold, FIRST), expected(threshold), check_row_order=True
        )
    assert main(["cache", "update", "btcusdt", "--end", LAST, "--no-notify"]) == 0
    assert "up to date" in capsys.readouterr().out


@pytest.mark.usefixtures("quick_retries")
def test_an_update_without_a_connection_ends_with_1_and_is_not_up_to_date(
    copied: Path, exchange: Exchange, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(copied))
    exchange.close()
    # The ticks of the last day are stored, so its bars are added; later days are unknown.
    for message in ("1 of 1 days written", "no newer day is known"):
        assert main(["cache", "update", *QUIET]) == 1
        heard = capsys.readouterr().err
        assert message in heard
        assert "no source could be asked for newer days of BTCUSDT" in heard
        assert "up to date" not in heard
    assert days_of()[-1] == LAST
    assert main(["cache", "update", "--end", "2025-01-03", *QUIET]) == 1
    TickStorage(copied).delete_ticks("BTCUSDT", LAST, LAST)
    capsys.readouterr()
    # The cached bars reach the requested day, so the source need not answer.
    assert main(["cache", "update", "--end", LAST, "--no-notify"]) == 0
    assert "up to date" in capsys.readouterr().out


def test_an_update_report_has_the_reason_of_every_failure() -> None:
    task = PopulateTask(
        Venue("binance", "spot"),
        "BTCUSDT",
        "year",
        prevent_same_timestamp_close=True,
        start=datetime(2024, 1, 1, tzinfo=UTC),
        last_day=None,
        thresholds=(250,),
    )
    failed = [(task, CoverageError("first")), (task, CoverageError("second"))]
    lines = str(UpdateReport(failed=failed)).splitlines()
    assert [line.partition(": failed, ")[2] for line in lines] == ["first", "second"]


def test_update_takes_only_the_thresholds_that_are_named(copied: Path) -> None:
    assert main(["cache", "update", "-t", "500", "--end", LAST, *QUIET]) == 0
    assert days_of(threshold=500)[-1] == LAST
    assert days_of(threshold=250)[-1] == "2025-01-01"


def test_update_of_a_symbol_that_is_not_cached_ends_with_1(
    kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cache", "update", "BTCUSD", "--end", LAST]) == 1
    assert "did you mean `BTCUSDT`?" in capsys.readouterr().err


@pytest.mark.usefixtures("quick_retries")
def test_an_update_that_fails_ends_with_1_and_the_reason(
    copied: Path, exchange: Exchange, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(copied))
    TickStorage(copied).delete_ticks("BTCUSDT", LAST, LAST)
    path = exchange.path("2025-01-02")
    from exchange import faults

    exchange.fail(path, faults.flip(), times=None)
    assert main(["cache", "update", "--end", LAST, *QUIET]) == 1
    heard = capsys.readouterr().err
    assert "2025-01-02" in heard
    assert "hint: " in heard
    assert heard.count(": failed, ") == 1
    assert heard.count("rangebar: 1 population failed\n") == 1


def test_upgrade_rebuilds_bars_of_another_rule(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    relabelled(copied, BAR_SEMANTICS - 1)
    assert get_cached_bars("BTCUSDT", 250).is_empty()
    assert main(["cache", "upgrade", "--no-notify"]) == 0
    assert "2 of 2 days written" in capsys.readouterr().out
    found = get_cached_bars("BTCUSDT", 250, FIRST, "2025-01-01")
    assert_frame_equal(found, expected().filter(before("2025-01-02")))
    assert main(["cache", "upgrade", *QUIET]) == 0
    assert capsys.readouterr().err == ""
    assert main(["cache", "drop", "--outdated", "--yes"]) == 0
    with open_cache(cache_dir=copied) as cache:
        rules = {one.spec.rules.bar_semantics for one in read_chains(cache)}
    assert rules == {BAR_SEMANTICS}


def test_gc_counts_and_a_dry_run_removes_nothing(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days = days_of()
    for words in (["--dry-run"], []):
        assert main(["cache", "gc", *words]) == 0
        heard = capsys.readouterr()
        assert table_of(heard.out).columns == ["table", "rows"]
        assert ("would be deleted" in heard.err) is bool(words)
    assert days_of() == days


def test_drop_removes_nothing_without_confirmation(
    kept: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))  # no terminal
    assert main(["cache", "drop", "BTCUSDT"]) == 2
    heard = capsys.readouterr()
    assert "BTCUSDT (binance/spot) at 250 dbps, year 2024" in heard.err
    assert "--yes" in heard.err
    assert days_of() == ["2024-12-30", "2024-12-31", "2025-01-01"]


@pytest.mark.skipif(sys.platform == "win32", reason="has no terminal of this kind")
@pytest.mark.parametrize(("answer", "status"), [("n", 1), ("yes", 0)])
def test_drop_does_what_the_user_answers(answer: str, status: int, copied: Path) -> None:
    import pty

    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    run = subprocess.run(
        [sys.executable, "-m", "rangebar_polars", "cache", "drop", "BTCUSDT", "-t", "500"],
        stdin=theirs, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    os.close(ours)
    os.close(theirs)
    assert run.returncode == status, run.stderr
    assert "[y/N]" in run.stderr
    assert bool(days_of(threshold=500)) is (status == 1)
    assert days_of(threshold=250)


def test_drop_removes_only_superseded_series_on_request(copied: Path) -> None:
    options = {"threshold_decimal_bps": 1_000, "verbose": False, "notify": False}
    for first in ("2024-12-31", "2024-12-30"):
        populate_cache_resumable("BTCUSDT", first, "2024-12-31", cache_dir=copied, **options)
    with open_cache(cache_dir=copied) as cache:
        before_it = set(read_chains(cache))
    assert main(["cache", "drop", "--superseded", "--yes"]) == 0
    with open_cache(cache_dir=copied) as cache:
        gone = before_it - set(read_chains(cache))
    assert gone == {BarSpec.of("BTCUSDT", 1_000).series(date(2024, 12, 31))}


def test_a_count_of_one_is_singular(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"threshold_decimal_bps": 1_000, "verbose": False, "notify": False}
    populate_cache_resumable("BTCUSDT", FIRST, FIRST, cache_dir=copied, **options)
    drop = ["cache", "drop", "BTCUSDT", "-t", "1000"]
    assert main(drop) == 2
    assert "this series (1 day," in capsys.readouterr().err
    assert main([*drop, "--yes"]) == 0
    assert "removed 1 series (1 day," in capsys.readouterr().err
    assert main(["cache", "drop", "--yes"]) == 0
    assert "removed 4 series (6 days," in capsys.readouterr().err


def test_an_upgrade_without_work_says_so(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cache", "upgrade", "--no-notify"]) == 0
    heard = capsys.readouterr().out
    assert "nothing to upgrade" in heard
    assert "no bars are cached" not in heard


def test_drop_empties_a_cache_with_tables_of_another_version(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_cache(cache_dir=copied) as cache:
        cache.command(f"INSERT INTO {cache.table('schema_version')} (version) VALUES (99)")
    for words in (["status"], ["count", "BTCUSDT"], ["upgrade"], ["drop", "BTCUSDT", "--yes"]):
        assert main(["cache", *words]) == 1
        assert "`99`" in capsys.readouterr().err
    assert main(["cache", "drop", "--yes"]) == 0
    assert main(["cache", "status"]) == 0
    assert "no bars are cached" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "ACTION"),
        (["statsu"], "statsu"),
        (["coverage"], "SYMBOL"),
        (["coverage", "BTCUSD"], "did you mean `BTCUSDT`?"),
        (["coverage", "BTCUSDT", "2024-13-01"], "2024-13-01"),
        (["coverage", "BTCUSDT", LAST, FIRST], "not after"),
        (["count", "BTCUSDT", "--before", "noon"], "noon"),
        (["count", "BTCUSDT", "-t", "0.25"], "250"),
        (["count", "BTCUSDT", "--reset", "hour"], "`hour`"),
        (["count", "BTCUSDT", "--market", "futures"], "`spot`, `um`, `cm`"),
        (["export", "BTCUSDT", "--out", "bars.xlsx"], ".parquet"),
        (["update", "--end", "noon"], "noon"),
        (["update", "BTC USDT"], "not a symbol"),
        (["status", "--dsn", "mysql://host"], "mysql"),
        (["upgrade", "--workers", "none"], "none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_usage_error_ends_with_2(
    words: list[str], message: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["cache", *words])
    except SystemExit as ended:
        status = ended.code
    heard = capsys.readouterr()
    assert (status, heard.out) == (2, ""), heard.err
    assert message in heard.err


EVERY_COMMAND = [
    ["bars", "{file}"],
    ["bars", "BTCUSDT", "{first}", "{first}"],
    ["populate", "BTCUSDT", "--start", "{first}"],
    ["cache", "status"],
    ["cache", "coverage", "BTCUSDT"],
    ["cache", "count", "BTCUSDT"],
    ["cache", "export", "BTCUSDT"],
    ["cache", "update"],
    ["cache", "upgrade"],
    ["cache", "gc"],
    ["cache", "drop", "--yes"],
    ["fetch", "BTCUSDT", "{first}"],
    ["ticks", "coverage", "BTCUSDT", "{first}"],
    ["ticks", "verify"],
    ["ticks", "list"],
    ["ticks", "gc"],
    ["ticks", "drop", "BTCUSDT", "--before", "{first}", "--yes"],
    ["symbols"],
    ["config"],
    ["doctor"],
]


@pytest.fixture(scope="module")
def lately() -> Iterator[Exchange]:
    """Yield an exchange with four days up to now."""
    now = datetime.now(UTC)
    first = now.date() - timedelta(days=3)
    tape = Tape.generate(start=first, days=4, per_day=300, absent=0, archive_lacks=0)
    with Exchange(tape.until(now) if hasattr(tape, "until") else tape, now=now) as box:
        yield box


@pytest.fixture(scope="module")
def shared_folder() -> Iterator[Path]:
    fast = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else None) as name:
        yield Path(name)


@pytest.mark.parametrize("place", ["empty", "used"])
@pytest.mark.parametrize("words", EVERY_COMMAND, ids=" ".join)
def test_every_command_runs_with_its_default_arguments(
    words: list[str], place: str, lately: Exchange, shared_folder: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, value in lately.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(shared_folder if place == "used" else tmp_path))
    file = tmp_path / "trades.parquet"
    TAPE.ticks.write_parquet(file)
    first = datetime.now(UTC).date() - timedelta(days=3)
    needs_data = words[:2] in (["cache", "count"], ["cache", "export"], ["ticks", "drop"])
    is_nothing = place == "empty" and needs_data
    assert main([word.format(file=file, first=first) for word in words]) == int(is_nothing)
    assert "Traceback" not in capsys.readouterr().err
