"""`python -m rangebar_polars.validation` on files, as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.interop.pandas_frames import bars_to_pandas
from rangebar_polars.validation import _counted
from rangebar_polars.validation.__main__ import main
from rangebar_polars.validation._bar_file import read_bars
from rangebar_polars.validation._counted import check_count, check_count_api

pytestmark = pytest.mark.usefixtures("libraries")

BARS = rb.sample_ticks().rangebar.bars(100, features="microstructure")
COPIES = BARS.with_columns(forward_return=pl.col("close").shift(-1) / pl.col("close") - 1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "bars.parquet"
    BARS.write_parquet(path)
    return path


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rangebar_polars.validation", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def found(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, object]]:
    status = main([*map(str, arguments), "--format", "json"])
    return status, json.loads(capsys.readouterr().out)


def test_the_module_runs_as_a_script(file: Path) -> None:
    done = run(file, "--n-bars", BARS.height)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "count: count check passed"
    assert f"tier1: tier 1 passed: {BARS.height:,} bars" in lines
    assert f"tier2: tier 2 passed: {BARS.height:,} of {BARS.height:,} bars used" in lines
    assert lines[-1] == "passed: count, tier1, tier2"


def test_a_script_that_fails_shows_no_traceback(tmp_path: Path) -> None:
    done = run(tmp_path / "missing.parquet")
    assert (done.returncode, done.stdout) == (2, "")
    assert "missing.parquet` cannot be read as bars" in done.stderr
    assert "Traceback" not in done.stderr
    assert run("--tier", "3").returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")
@pytest.mark.parametrize(
    ("target", "status", "words"),
    [
        (">&-", 2, "validation: standard output is closed\n"),
        pytest.param(
            "> /dev/full",
            2,
            "No space left on device",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full"),
        ),
        ("2>&- >&-", 2, ""),
        ("| true", 0, ""),
    ],
)
def test_results_that_cannot_be_written_are_no_traceback(
    target: str, status: int, words: str, file: Path
) -> None:
    line = f'"{sys.executable}" -m rangebar_polars.validation "{file}" --tier 1 {target}'
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert words in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "ten", "", "9" * 5000])
def test_a_count_is_a_number_of_at_least_1(
    text: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main([str(file), f"--n-bars={text}"])
    assert "--n-bars: must be a whole number of at least 1; it is `" in capsys.readouterr().err


def test_json_has_the_results_of_the_functions(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, results = found(capsys, file, "--tier", 1)
    assert (status, results["passed"], results["file"]) == (0, True, str(file))
    assert set(results) == {"file", "passed", "tier1"}
    assert results["tier1"] == rb_validation().validate_tier1(BARS)
    status, results = found(capsys, file, "--features", "duration_us, ofi", "--max-rows", "1_000")
    assert (status, results["passed"]) == (1, False)
    second = rb_validation().validate_tier2(BARS, features=["duration_us", "ofi"], max_rows=1000)
    assert {**results["tier2"], "seconds": 0} == {**second, "seconds": 0}


def rb_validation():
    from rangebar_polars import validation

    return validation


def test_another_target_can_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    COPIES.rename({"forward_return": "ahead"}).write_csv(tmp_path / "bars.csv")
    options = ("--target", "ahead", "--features", "ofi,duration_us,trade_intensity")
    _, results = found(capsys, tmp_path / "bars.csv", *options)
    assert results["tier2"]["target"] == "ahead"
    assert list(results["tier2"]["stationarity"]) == ["duration_us", "ofi", "trade_intensity"]


def test_a_check_that_fails_is_status_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    BARS.with_columns(ofi=pl.lit(2.0)).write_parquet(tmp_path / "bars.parquet")
    status, results = found(capsys, tmp_path / "bars.parquet", "--n-bars", BARS.height)
    assert (status, results["passed"]) == (1, False)
    assert [results[name].get("error", "") for name in ("count", "tier1", "tier2")] == [
        "",
        f"ofi_bounded fails in {BARS.height:,} bars",
        f"tier 1 failed: ofi_bounded fails in {BARS.height:,} bars",
    ]
    assert main([str(tmp_path / "bars.parquet"), "--tier", "1"]) == 1
    assert capsys.readouterr().out.endswith("\nfailed: tier1\n")


@pytest.mark.parametrize("suffix", ["parquet", "csv", "csv.gz"])
@pytest.mark.parametrize("library", ["polars", "pandas"])
def test_files_of_both_libraries_hold_the_same_bars(
    library: str, suffix: str, tmp_path: Path
) -> None:
    pytest.importorskip("pandas")
    path = tmp_path / f"bars.{suffix}"
    if library == "pandas":
        frame = bars_to_pandas(BARS, rb.REFERENCE_COLUMNS)
        frame.to_parquet(path) if suffix == "parquet" else frame.to_csv(path)
    elif suffix == "parquet":
        BARS.write_parquet(path)
    else:
        text = BARS.write_csv().encode()
        import gzip

        path.write_bytes(gzip.compress(text) if suffix == "csv.gz" else text)
    bars = read_bars(path)
    times = [
        bars["close_time"].dt.replace_time_zone(None),
        BARS["close_time"].dt.replace_time_zone(None),
    ]
    assert times[0].dt.epoch("us").equals(times[1].dt.epoch("us"))
    for name in ("open", "high", "low", "close", "volume", "ofi", "duration_us"):
        assert bars[name].to_list() == BARS[name].to_list(), name
    assert rb_validation().validate_tier1(bars)["tier1_passed"] is True


def test_a_column_without_values_stays_numeric_in_csv(tmp_path: Path) -> None:
    bars = BARS.with_columns(ofi=pl.lit(None, pl.Float64))
    bars.write_csv(tmp_path / "bars.csv")
    assert read_bars(tmp_path / "bars.csv").schema["ofi"] == pl.Float64


@pytest.mark.parametrize("content", [b"", b"PAR1 not really", b"\x7fELF\x02\xff\xfe\n\xff\x80\n"])
def test_a_file_that_is_none_is_status_2(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bars").write_bytes(content)
    assert main([str(tmp_path / "bars")]) == 2
    assert "cannot be read as bars" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 2
    assert "hint: " in capsys.readouterr().err


def test_a_table_of_something_else_is_status_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("name,value\na,1\nb,2\n")
    assert main([str(tmp_path / "list.csv"), "--n-bars", "2"]) == 1
    assert "there are no feature columns" in capsys.readouterr().out


def test_wrong_arguments_are_status_2(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "give a FILE, or --api" in capsys.readouterr().err
    assert main([str(file), "--features", "offi"]) == 2
    assert "did you mean `ofi`" in capsys.readouterr().err
    for option in (("--n-bars", "0"), ("--max-rows", "x"), ("--features", ","), ("--tiers", "1")):
        with pytest.raises(SystemExit) as caught:
            main([str(file), *option])
        assert caught.value.code == 2


def test_a_missing_library_is_status_2(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "statsmodels", None)
    assert main([str(file)]) == 2
    assert "hint: pip install 'rangebar-polars[validation]'" in capsys.readouterr().err
    assert main([str(file), "--tier", "1"]) == 0


# The count-bounded checks


def test_counted_bars_pass() -> None:
    bars = rb.sample_ticks().rangebar.bars(100, incomplete="keep")
    closed = bars.filter("is_closed").tail(50)
    result = check_count(closed, 50)
    assert result["passed"] is True
    assert None not in result.values()


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (lambda bars: bars.head(9), "is_exact"),
        (lambda bars: bars.reverse(), "is_one_series_in_order"),
        (lambda bars: bars.with_columns(is_closed=pl.col("bar_id") != 7), "are_closed"),
        (lambda bars: bars.with_columns(low=pl.col("high")), "prices_are_valid"),
        (lambda bars: bars.with_columns(high=pl.lit(float("nan"))), "prices_are_valid"),
        (lambda bars: bars.with_columns(open=pl.lit(None, pl.Float64)), "prices_are_valid"),
        (lambda bars: bars.with_columns(open_time=pl.col("open_time").first()), "do_not_overlap"),
    ],
)
def test_each_fault_of_counted_bars_is_found(change, finding: str) -> None:
    bars = BARS.head(10).with_columns(is_closed=True)
    assert check_count(bars, 10)["passed"] is True
    result = check_count(change(bars), 10)
    assert result["passed"] is False
    assert result[finding] is False
    assert finding in repr(result)
    assert json.loads(json.dumps(result)) == result


def test_the_functions_of_this_installation_pass(capsys: pytest.CaptureFixture[str]) -> None:
    status, results = found(capsys, "--api")
    assert status == 0
    assert results == {"file": None, "passed": True, "api": check_count_api()}


def test_a_function_that_returns_other_bars_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rb.get_n_range_bars
    monkeypatch.setattr(rb, "get_n_range_bars", lambda *a, **b: whole(*a, **b).iloc[::-1])
    result = _counted.check_count_api()
    assert (result["passed"], result["bars_are_the_newest"]) == (False, False)
    assert result["error"] == "failed: bars_are_the_newest"
