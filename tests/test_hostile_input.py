"""Files of the user that no writer made: the command says what is wrong, never a traceback."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.cli import main
from rangebar_polars.config import read_toml, settings
from rangebar_polars.exceptions import SettingError
from rangebar_polars.symbol_registry import clear_symbol_registry_cache, get_symbol_entries

if TYPE_CHECKING:
    from pathlib import Path

TIME = 1_723_161_255_342
ROWS = "".join(f"{i},100,1,{i},{i},{TIME + i},true,true\n" for i in range(1, 200)).encode()

DEEP = 100_000
# Each is a whole file; all must be refused as a settings file and as a symbols file.
TOML = {
    "nested arrays": "a = " + "[" * 5_000 + "]" * 5_000,
    "nested tables": "a = " + "{a=" * 5_000 + "1" + "}" * 5_000,
    "unclosed arrays": "a = " + "[" * DEEP,
    "nested setting": "http_tries = " + "[" * 100 + "]" * 100,
    "dotted setting": "http_tries." + ".".join("a" * 1_000) + " = 1",
    "dotted symbol": "[symbols.BTCUSDT]\ntier." + ".".join("a" * 1_000) + " = 1",
    "long integer": "http_tries = " + "9" * 5_000,
    "long hexadecimal": "http_tries = 0x" + "f" * 50_000,
    "long symbol tier": "[symbols.BTCUSDT]\ntier = 0x" + "f" * 50_000,
    "no TOML": "\x00\x01\x02",
    "control characters": 'a = "\x1b[2J"',
    "unfinished escape": 'a = "\\u12"',
    "lone surrogate": 'a = "\\ud800"',
    "duplicate": "a = 1\na = 2",
    "wrong date": "a = 2024-02-30",
    "a key as a table": "a = 1\n[a.b]\nc = 1",
    "escaped control characters in a key": '"\\u001b[2J" = 1',
    "endless line": "a" * 2_000_000,
    "many lines": "#\n" * 1_000_000,
}
BYTES = {"UTF-16": "a = 1".encode("utf-16"), "Latin": b"a = '\xe9'", "binary": bytes(range(256))}


def files() -> list[tuple[str, bytes]]:
    return [*((name, text.encode()) for name, text in TOML.items()), *BYTES.items()]


def is_clean(words: str) -> bool:
    return "Traceback" not in words and not set(words) & {"\x00", "\x1b", "\x07"}


@pytest.mark.parametrize(
    ("name", "content"), files(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_hostile_toml_file_is_a_setting_error_that_names_it(
    name: str,
    content: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    monkeypatch.setenv("RANGEBAR_CONFIG", str(file))
    with pytest.raises(SettingError, match=r"mine\.toml") as caught:
        settings()
    assert len(str(caught.value)) < 2_000
    assert main(["symbols"]) == 2
    assert is_clean(said := capsys.readouterr().err)
    assert "mine.toml" in said
    monkeypatch.delenv("RANGEBAR_CONFIG")

    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(file))
    clear_symbol_registry_cache()
    with pytest.raises(SettingError, match=r"mine\.toml"):
        get_symbol_entries()
    assert main(["symbols"]) == 2
    assert is_clean(capsys.readouterr().err)


@pytest.mark.parametrize(
    "line",
    [
        'symbols = "a\\u0000b"', 'cache_dir = "\\u0000"', "http_timeout_s = 1e300", "http_timeout_s = inf",
        "http_timeout_s = nan", f"cache_wait_s = {'9' * 400}", f"http_timeout_s = 0x{'f' * 9_000}",
        "http_tries = true", "verbose = 2024-01-01", "checksum = [[['maybe']]]", "binance_archive_url = {a = 1}",
        'telegram_token = {secret = "S3CRET"}', "telegram_token = [['S3CRET']]",
    ],
)  # fmt: skip
def test_a_hostile_value_is_a_setting_error_that_names_its_key(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(line, encoding="utf-8")
    monkeypatch.setenv("RANGEBAR_CONFIG", str(file))
    with pytest.raises(SettingError, match=line.split(maxsplit=1)[0]) as caught:
        settings()
    assert len(str(caught.value)) < 1_000
    assert "S3CRET" not in str(caught.value)


def test_files_that_are_just_within_the_limits_are_read(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("a = " + "[" * 50 + "]" * 50 + "\n" + "#" * 900_000, encoding="utf-8")
    assert list(read_toml(file)) == ["a"]
    with pytest.raises(SettingError, match="cannot be read"):
        read_toml(tmp_path)
    with pytest.raises(SettingError, match="cannot be read"):
        read_toml(tmp_path / "a\0b")


def zipped(method: int, content: bytes = ROWS) -> bytearray:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("BTCUSDT-aggTrades-2024-08-09.csv", content)
    return bytearray(buffer.getvalue())


def flipped(data: bytearray, place: int) -> bytes:
    data[place] ^= 0xFF
    return bytes(data)


DEFLATED = zipped(zipfile.ZIP_DEFLATED)
ARCHIVES = {
    "exponent.csv": f"1,1e-999999999999999999999,1,1,1,{TIME},true,true\n".encode(),
    "large exponent.csv": f"1,1e999999999999999999999,1,1,1,{TIME},true,true\n".encode(),
    "long id.csv": f"{'9' * 5_000},100,1,1,1,{TIME},true,true\n".encode(),
    "long price.csv": f"1,{'9' * 5_000},1,1,1,{TIME},true,true\n".encode(),
    "control.csv": f"1,\x1b[2J\x00\x07,1,1,1,{TIME},true,true\n".encode(),
    "not text.csv": bytes(range(256)) * 4,
    "far time.csv": f"1,100,1,1,1,{10**18 * 9},true,true\n".encode(),
    "directory offset.zip": flipped(bytearray(DEFLATED), DEFLATED.rfind(b"PK\x05\x06") + 17),
    "damaged deflate.zip": flipped(bytearray(DEFLATED), 80),
    "damaged lzma.zip": flipped(zipped(zipfile.ZIP_LZMA), 39),
    "damaged bzip2.zip": flipped(zipped(zipfile.ZIP_BZIP2), 70),
    "cut.zip": bytes(DEFLATED[:-30]),
    "no archive.zip": b"PK\x03\x04" + bytes(100),
    "empty.zip": b"",
    "plain.gz": gzip.compress(ROWS)[:-9],
    "plain.csv.xz": lzma.compress(ROWS)[:-9],
    "plain.csv.bz2": bz2.compress(ROWS)[:-9],
    "empty.parquet": b"",
    "magic.parquet": b"PAR1" + bytes(64) + b"PAR1",
    "length.parquet": b"PAR1" + b"\xff" * 12 + b"PAR1",
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_a_hostile_file_of_trades_ends_in_words(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / name
    file.write_bytes(ARCHIVES[name])
    assert main(["bars", str(file), "--threshold", "250"]) in {1, 2}
    out, said = capfd.readouterr()
    assert out == ""
    assert said.startswith("rangebar: ")
    assert is_clean(said)
    assert len(said) < 5_000


def test_a_parquet_file_with_hostile_values_ends_in_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ticks = rb.sample_ticks().head(3)
    side = ticks.drop("is_buyer_maker").with_columns(side=pl.lit("\x1b[2J\x07\x00sell"))
    far = ticks.with_columns(pl.lit(2**62).cast(pl.Datetime("us")).alias("timestamp"))
    nan = ticks.with_columns(price=pl.lit(float("nan")))
    for number, frame in enumerate((side, nan, far)):
        file = tmp_path / f"{number}.parquet"
        frame.write_parquet(file)
        status = main(["bars", str(file), "--threshold", "250"])
        assert status == 1 or frame is far
        assert is_clean(capsys.readouterr().err)


def test_the_real_command_shows_no_traceback(tmp_path: Path) -> None:
    symbols = tmp_path / "symbols.toml"
    symbols.write_text(TOML["nested arrays"], encoding="utf-8")
    price = tmp_path / "exponent.csv"
    price.write_bytes(ARCHIVES["exponent.csv"])
    calls = {
        2: (["symbols"], {"RANGEBAR_SYMBOLS": str(symbols)}),
        1: (["bars", str(price)], {}),
    }
    for status, (words, environment) in calls.items():
        run = subprocess.run(
            [sys.executable, "-m", "rangebar_polars", *words], env=os.environ | environment,
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert run.returncode == status, run.stderr
        assert "Traceback" not in run.stderr
        assert run.stderr.startswith("rangebar: ")


class OddError(Exception):
    """An error of a class that nobody has heard of."""


ODD = [
    OddError("what \x1b[2J"), OddError(), ArithmeticError("a"), KeyError("key"), RecursionError("deep"),
    MemoryError(), AssertionError("false"), EOFError(), lzma.LZMAError("Corrupt"), StopIteration(), RuntimeError(""),
    pl.exceptions.PanicException("panicked"), ExceptionGroup("several", [ValueError("a")]), OddError("x" * 10**6),
]  # fmt: skip


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
def test_an_error_of_any_class_ends_in_words(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("rangebar_polars.symbol_registry.get_symbol_entries", fails)
    assert main(["symbols"]) == 1
    out, said = capsys.readouterr()
    assert out == ""
    assert is_clean(said)
    assert len(said) < 2_000
    assert type(error).__name__ in said
    assert "rangebar_polars.cli.symbols, line" in said


@pytest.mark.parametrize(
    "words",
    [
        ["bars", "x.csv", "--threshold", "9" * 5_000], ["bars", "x.csv", "--threshold", "1e999999999%"],
        ["bars", "x.csv", "--threshold", "9" * 400 + ".5"], ["symbols", "--tier", "9" * 5_000],
        ["bars", "BTCUSDT", "9" * 5_000, "2024-01-01"], ["bars", "BTCUSDT", "0001-01-01", "9999-12-31"],
        ["bars", "a\0b.csv"], ["bars", "x" * 100_000 + ".csv"], ["bars", "\udcff.csv"], ["bars", "[.csv"],
        ["bars", "x.csv", "--out", "a\0b.csv"], ["cache", "status", "--cache-dir", "a\0b"],
        ["populate", "BTCUSDT", "--start", "10000-01-01"], ["ticks", "status", "--cache-dir", "\0"],
    ],
    ids=range(14),
)  # fmt: skip
def test_hostile_words_of_a_call_end_in_words(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))
    try:
        status = main(words)
    except SystemExit as end:  # of argparse
        status = end.code
    out, said = capsys.readouterr()
    assert status in {1, 2}, out
    assert is_clean(said)
