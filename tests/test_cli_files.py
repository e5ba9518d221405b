"""Trade files on the command line: layouts, columns, units, keys, standard input and import."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import zipfile
from datetime import date
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars.cli import main
from rangebar_polars.cli._remedies import command, with_options
from rangebar_polars.readers.hints import MissingTicks
from rangebar_polars.storage.parquet import TickStorage

if TYPE_CHECKING:
    from pathlib import Path

TICKS = rb.sample_ticks().head(4_000)


def run(*words: object, data: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    program = [sys.executable, "-m", "rangebar_polars", *map(str, words)]
    done = subprocess.run(
        program, input=data or b"", capture_output=True, timeout=1200, check=False
    )
    assert b"Traceback" not in done.stderr
    return done


def two_symbols(unit: str | None = None) -> pl.DataFrame:
    parts = [TICKS.with_columns(symbol=pl.lit(name)) for name in ("A", "B")]
    both = pl.concat(parts).sort("timestamp", maintain_order=True)
    return both if unit is None else both.with_columns(pl.col("timestamp").dt.epoch(unit))


def bars_csv(text: str) -> pl.DataFrame:
    return pl.read_csv(io.StringIO(text), try_parse_dates=True)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_times_of_any_unit_are_read(
    unit: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.parquet"
    two_symbols(unit).write_parquet(path)
    words = ["bars", str(path), "--group-by", "symbol"]
    assert main(words) == 1
    assert f"hint: --time-unit {unit}" in capsys.readouterr().err
    assert main([*words, "--time-unit", unit]) == 0
    heard = capsys.readouterr()
    assert "layout: " in heard.err
    found = bars_csv(heard.out)
    ticks = two_symbols() if unit != "ms" else two_symbols().with_columns(
        pl.col("timestamp").dt.truncate("1ms")
    )  # fmt: skip
    wanted = ticks.rangebar.bars(250, group_by="symbol")
    assert found["close_time"].to_list() == wanted["close_time"].to_list()
    assert found["symbol"].to_list() == wanted["symbol"].to_list()


def test_times_of_another_unit_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.parquet"
    two_symbols("us").write_parquet(path)
    words = ["bars", str(path), "--group-by", "symbol", "--time-unit"]
    for unit in ("s", "ms", "ns"):
        assert main([*words, unit]) == 1
        heard = capsys.readouterr()
        assert heard.out == ""
        assert f"`1723075200932115` in `timestamp` is outside 2000 to 2100 in `{unit}`" in heard.err
        assert "hint: --time-unit us" in heard.err
    two_symbols().with_columns(timestamp=pl.lit(7)).write_parquet(path)
    assert main([*words, "s"]) == 1
    assert "`7` in `timestamp` is outside 2000 to 2100 in `s`" in capsys.readouterr().err


def test_times_of_float_seconds_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.csv"
    ticks = two_symbols("us").with_columns(pl.col("timestamp") / 1_000_000)
    ticks.write_csv(path)
    assert main(["bars", str(path), "--group-by", "symbol", "--time-unit", "s"]) == 0
    wanted = two_symbols().rangebar.bars(250, group_by="symbol")
    assert bars_csv(capsys.readouterr().out)["open_time"].to_list() == wanted["open_time"].to_list()


def test_standard_input_is_read_as_a_file_is(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    content = gzip.compress(two_symbols("us").write_csv().encode())
    path.write_bytes(content)
    options = ["--group-by", "symbol", "--time-unit", "us"]
    piped = run("bars", "-", *options, data=content)
    assert piped.returncode == 0, piped.stderr
    assert piped.stdout == run("bars", path, *options).stdout
    assert len(piped.stdout.splitlines()) > 1


@pytest.mark.parametrize("form", ["zip", "gzip"])
def test_packed_tables_with_keys_are_read_in_pieces(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, path = tmp_path / "t.csv", tmp_path / f"t.{form}"
    plain.write_bytes(two_symbols("us").write_csv().encode())
    if form == "gzip":
        path.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.write(plain, "t.csv")
            archive.writestr("__MACOSX/._t.csv", "x")
    options = ["--group-by", "symbol", "--time-unit", "us"]
    assert main(["bars", str(plain), *options]) == 0
    wanted = capsys.readouterr().out
    with monkeypatch.context() as patched:
        if form == "gzip":  # a zip file has its directory at the end
            patched.setattr("pathlib.Path.read_bytes", None)
        assert main(["bars", str(path), *options]) == 0
    assert capsys.readouterr().out == wanted
    path.write_bytes(path.read_bytes()[:-20])
    assert main(["bars", str(path), *options]) == 1
    assert f"is a damaged {form} file" in capsys.readouterr().err


def test_hidden_files_of_a_folder_are_not_tables(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two_symbols().write_csv(tmp_path / "a.csv")
    (tmp_path / "._a.csv").write_bytes(b"\0\1\2")
    (tmp_path / "notes.txt").write_text("none", encoding="utf-8")
    assert main(["bars", str(tmp_path), "--group-by", "symbol"]) == 0
    wanted = two_symbols().rangebar.bars(250, group_by="symbol")
    assert bars_csv(capsys.readouterr().out)["close"].to_list() == wanted["close"].to_list()


@pytest.mark.parametrize(("row", "text"), [(0, "soon"), (2, "2024-02-30 00:00:00")])
def test_text_that_is_not_a_time_is_named(
    row: int, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    times = [f"2024-01-01 00:00:0{second}" for second in range(4)]
    times[row] = text
    columns = {"timestamp": times, "price": [100.0] * 4, "quantity": [1.0] * 4}
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    two_symbols().head(4).select(
        pl.Series("timestamp", [f"2023-01-01 00:00:0{second}" for second in range(4)]),
        *("price", "quantity", "symbol"),
    ).write_csv(good)
    pl.DataFrame(columns).with_columns(symbol=pl.lit("A")).write_csv(bad)
    assert main(["bars", str(good), str(bad), "--group-by", "symbol"]) == 1
    heard = capsys.readouterr().err
    assert f"`{bad}`, row {row}: `{text}` in `timestamp` is not a time" in heard
    assert "2024-01-31T12:00:00Z" in heard


def test_standard_input_that_is_named_twice_is_not_read(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(b"1,2\n"))
    monkeypatch.setattr(sys, "stdin", stream)
    assert main(["bars", "-", "-"]) == 2
    assert "once" in capsys.readouterr().err
    assert stream.buffer.tell() == 0


def test_files_of_any_layout_are_recognised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    binance = tmp_path / "ETHUSDT-trades-2024-08-08.csv"
    rows = [(7, 3200.5, 0.02), (8, 3210.5, 0.5), (9, 3219.5, 1.0)]
    lines = [f"{i},{p},{q},1.0,{1_723_075_200_000 + i},true,true" for i, p, q in rows]
    binance.write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert main(["bars", str(binance)]) == 0
    heard = capsys.readouterr()
    assert "rangebar: layout: binance-trades (spot)" in heard.err
    assert "rangebar: 1 bar at 0.25 %\n" in heard.err
    assert bars_csv(heard.out)["close"].to_list() == [3210.5]
    own = tmp_path / "own.csv"
    own.write_text("when,px,sz\n1723075200000,100,1\n1723075201000,100.5,2\n", encoding="utf-8")
    assert main(["bars", str(own)]) == 1
    assert "--layout csv" in capsys.readouterr().err
    columns = "timestamp=when,price=px,quantity=sz"
    assert main(["bars", str(own), "--columns", columns, "--time-unit", "ms"]) == 0
    assert bars_csv(capsys.readouterr().out)["volume"].to_list() == [3.0]
    folder = tmp_path / "folder"
    folder.mkdir()
    own.rename(folder / "own.csv")
    assert main(["bars", str(folder), "--columns", columns, "--time-unit", "ms"]) == 0
    assert bars_csv(capsys.readouterr().out).height == 1


def test_a_missing_key_names_the_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.parquet"
    TICKS.write_parquet(path)
    assert main(["bars", str(path), "--group-by", "coin"]) == 1
    heard = capsys.readouterr()
    assert "`coin`" in heard.err
    assert "`price`" in heard.err


def test_several_symbols_without_a_key_propose_the_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.parquet"
    two_symbols().drop("agg_trade_id", "first_trade_id", "last_trade_id").write_parquet(path)
    assert main(["bars", str(path)]) == 1
    heard = capsys.readouterr().err
    assert "hint: read one of them: --symbol A\n" in heard
    assert "group_by=" not in heard


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_the_symbol_of_files_with_several_is_chosen(
    suffix: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [name for name in TICKS.columns if name.endswith("_id")]
    both = two_symbols().drop(ids).select(pl.lit("spot").alias("market"), pl.all())
    path = tmp_path / f"t{suffix}"
    (both.write_parquet if suffix == ".parquet" else both.write_csv)(path)
    assert main(["bars", str(path)]) == 1
    heard = capsys.readouterr().err
    assert "`B` after `A`" in heard
    assert "--symbol A" in heard
    assert main(["bars", str(path), "--symbol", "b"]) == 0
    wanted = TICKS.drop(ids).rangebar.bars(250)
    assert bars_csv(capsys.readouterr().out)["close"].to_list() == wanted["close"].to_list()
    assert main(["bars", str(path), "--columns", "symbol="]) == 0


@pytest.mark.parametrize("columns", ["price", "=px", "price px"])
def test_malformed_columns_are_a_usage_error(
    columns: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.parquet"
    TICKS.write_parquet(path)
    assert main(["bars", str(path), "--columns", columns]) == 2
    assert "--columns price=px,quantity=sz" in capsys.readouterr().err


def test_times_in_csv_end_in_z(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "bars.csv"
    TICKS.write_parquet(path)
    assert main(["bars", str(path)]) == 0
    text = capsys.readouterr().out
    assert "+0000" not in text
    first = text.splitlines()[1].split(",")[1]
    assert first == "2024-08-08T00:00:00.932115Z"
    assert main(["bars", str(path), "--out", str(out)]) == 0
    assert out.read_text(encoding="utf-8") == text


def test_quiet_prints_nothing_on_success_and_the_reason_of_a_failure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = tmp_path / "t.parquet", tmp_path / "bars.parquet"
    TICKS.write_parquet(path)
    assert main(["bars", str(path), "--quiet", "--out", str(out)]) == 0
    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("", "")
    assert main(["bars", str(tmp_path / "no.parquet"), "--quiet"]) == 1
    assert "no.parquet" in capsys.readouterr().err


def test_a_symbol_with_a_dot_or_slash_or_the_name_of_a_folder_is_imported_and_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "store"))
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
    (tmp_path / "ABC").mkdir()
    rb.sample_ticks().write_parquet("t.parquet")
    for symbol in ("BRK.B", "EUR/USD", "ABC"):
        assert main(["ticks", "import", "t.parquet", "--source", "mine", symbol]) == 0
        assert f"{symbol} (mine/spot): " in capsys.readouterr().out
        days = ["2024-08-08", "2024-08-08"]
        assert main(["bars", symbol, *days, "--source", "mine", "--no-cache"]) == 0
        wanted = rb.sample_ticks().rangebar.bars(250)
        assert bars_csv(capsys.readouterr().out)["close"].to_list() == wanted["close"].to_list()


def test_import_takes_the_symbol_of_files_with_several(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
    path = tmp_path / "t.csv"
    ids = [name for name in TICKS.columns if name.endswith("_id")]
    two_symbols().drop(ids).write_csv(path)
    words = ["ticks", "import", str(path), "--source", "mine", "--cache-dir", str(tmp_path), "ABC"]
    assert main(words) == 1
    assert "--symbol A" in capsys.readouterr().err
    for option in ("--symbol", "--only"):
        assert main([*words, option, "A"]) == 0
    assert f"{TICKS.height:,} already stored" in capsys.readouterr().out


def test_import_writes_the_ticks_of_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "t.parquet", tmp_path / "store"
    ticks = rb.sample_ticks()
    moved = ticks.with_columns(
        pl.col("timestamp") + pl.duration(days=1),
        pl.col("agg_trade_id") + ticks.height,
        pl.col("first_trade_id", "last_trade_id") + 10_000_000,
    )
    pl.concat([ticks, moved]).write_parquet(file)
    words = ["ticks", "import", str(file), "--cache-dir", str(folder), "ETHUSDT"]
    assert main(words) == 0
    assert f"{2 * ticks.height:,} ticks of 2 days imported" in capsys.readouterr().out
    stored = TickStorage(folder).get_ticks("ETHUSDT", "2024-08-08", "2024-08-08")
    assert_frame_equal(stored, ticks)
    assert main(words) == 0
    assert "already stored" in capsys.readouterr().out
    assert main([*words, "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    ticks.head(1).write_parquet(file)
    assert main([*words[:-1], "BTCUSDT"]) == 0
    assert capsys.readouterr().out == "BTCUSDT (binance/spot): 1 tick of 1 day imported\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ticks", "import", "a.csv"], "symbol"),
        (["ticks", "import", "BTCUSDT"], "file"),
        (["ticks", "import", "a.csv", "b.csv"], "symbol"),
        (["bars", "-", "-"], "once"),
        (["bars", "x.csv", "--time-unit", "minutes"], "ms"),
        (["bars", "x.csv", "--group-by", "symbol", "--symbol", "A"], "leave out --symbol"),
        (["bars", "x.csv", "--group-by", "symbol", "--layout", "csv"], "and --layout"),
        (["bars", "ABC", "2024-08-08", "2024-08-09", "--layout", "csv"], "leave out --layout"),
        (["bars", "ABC", "2024-08-08", "2024-08-09", "--columns", "price=p"], "out --columns"),
        (["bars", "ABC", "2024-08-08", "2024-08-09", "--time-unit", "ms"], "out --time-unit"),
        (["bars", "ABC", "2024-08-08", "2024-08-09", "--group-by", "s"], "out --group-by"),
        (["bars", "A.B", "2024-08-08", "2024-13-09"], "2024-13-09"),
    ],
    ids=" ".join,
)
def test_misused_files_are_usage_errors(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    try:
        status = main(words)
    except SystemExit as ended:
        status = int(ended.code or 0)
    assert status == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["satus"], "rangebar status"),
        (["clear"], "rangebar cache drop"),
        (["poplate"], "rangebar populate"),
        (["cache", "statsu"], "rangebar cache status"),
        (["bars", "--threshhold", "250", "x.csv"], "--threshold"),
        (["fetch", "BTCUSDT", "2024-01-01", "--cachedir", "x"], "--cache-dir"),
        ([], "rangebar --help"),
    ],
    ids=" ".join,
)
def test_a_misspelt_word_names_the_nearest(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2
    heard = capsys.readouterr().err
    assert message in heard
    if words[:1] in (["bars"], ["fetch"]):
        assert heard.startswith(f"usage: rangebar {words[0]}")


def commands() -> list[list[str]]:
    """Return every command that runs something."""
    from argparse import _SubParsersAction

    from rangebar_polars.cli import parser

    found: list[list[str]] = []

    def collect(one: object, words: list[str]) -> None:
        verbs = [a for a in one._actions if isinstance(a, _SubParsersAction)]  # type: ignore[attr-defined]
        for name, inner in verbs[0].choices.items() if verbs else ():
            collect(inner, [*words, name])
        if not verbs:
            found.append(words)

    collect(parser(), [])
    return found


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_every_command_takes_a_cache_folder(words: list[str]) -> None:
    from rangebar_polars.cli import parser

    one: object = parser()
    for word in words:
        one = next(a for a in one._actions if a.choices and word in a.choices).choices[word]  # type: ignore[attr-defined]
    assert "--cache-dir" in one._option_string_actions  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("hint", "option"),
    [
        ('end_date="2024-01-31"', "--end 2024-01-31"),
        ("refresh_stale=True rebuilds them", "--refresh-stale rebuilds them"),
        ('`pl.from_epoch("t", time_unit="ns")`', "--time-unit ns"),
        ('layout="csv", columns={"price": "p x"}', "--layout csv, --columns 'price=p x'"),
        ("columns={...}", "columns={...}"),
    ],
)
def test_hints_name_options(hint: str, option: str) -> None:
    assert with_options(f"wrong\n\nhint: {hint}") == f"wrong\n\nhint: {option}"
    assert with_options(hint) == hint


def test_the_command_for_ticks_of_a_user_source_has_the_folder() -> None:
    day = date(2024, 1, 1)
    missing = MissingTicks("BRK.B", "mine", "spot", day, day, cache_dir="/data")
    assert command(missing) == "rangebar ticks import FILES BRK.B --source mine --cache-dir /data"


def test_status_is_a_list_for_people_and_for_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("chdb")
    where = ["--cache-dir", str(tmp_path)]
    TickStorage(tmp_path).write_ticks("ETHUSDT", rb.sample_ticks())
    populate = ["populate", "ETHUSDT,ETHUSDT", "2024-08-08", "2024-08-08", "--no-notify", *where]
    assert main([*populate, "--quiet"]) == 0
    heard = capsys.readouterr()
    assert (heard.out, heard.err) == ("", "")
    assert main(["cache", "status", "--format", "table", *where]) == 0
    heard = capsys.readouterr()
    assert all(len(line) <= 80 for line in (heard.out + heard.err).splitlines())
    assert "ETHUSDT" in heard.out
    assert main(["cache", "status", "--format", "table", "--wide", *where]) == 0
    assert "bar_semantics" in capsys.readouterr().out
    assert main(["cache", "status", "--format", "json", *where]) == 0
    (series,) = json.loads(capsys.readouterr().out)
    assert (series["symbol"], series["anchor"]) == ("ETHUSDT", "2024-08-08T00:00:00Z")
    nothing = [
        ["status", "NOPE"],
        ["drop", "NOPE", "--yes"],
        ["count", "ETHUSDT", "-t", "999"],
        ["export", "ETHUSDT", "-t", "999"],
    ]
    for words in nothing:
        assert main(["cache", *words, *where]) == 1
        assert "no bars of " in capsys.readouterr().err
