"""The gate: who asks it, what it does in each mode, and who is told."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest

import rangebar_polars as rb
from rangebar_polars import events
from rangebar_polars.exceptions import SettingError, SymbolNotRegisteredError, ThresholdError
from rangebar_polars.notify import disable_notifications
from rangebar_polars.notify.pushover import send_critical_alert
from rangebar_polars.symbol_registry import (
    StartDateClampedWarning,
    SymbolNotRegisteredWarning,
    validate_and_clamp_start_date,
    validate_symbol_registered,
    validate_symbols_registered,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import polars as pl

# One asks for a minimum, which an unknown symbol has too. For the others `symbol` is a column of
# the trades, or says which trades of a file are meant: of any venue, whether registered or not.
NOT_GATED = {"resolve_and_validate_threshold", "bars", "bar_id", "scan_trades"}
GATED = sorted(
    name
    for name in rb.__all__
    if inspect.isfunction(thing := getattr(rb, name))
    and {"symbol", "symbols"} & set(inspect.signature(thing).parameters)
    and name not in NOT_GATED
)
KEYS = {"RANGEBAR_PUSHOVER_API_TOKEN": "t" * 30, "RANGEBAR_PUSHOVER_USER_KEY": "u" * 30}


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the event log of a user who has set nothing else."""
    names = ["SYMBOL_GATE", "SYMBOLS", "PUSHOVER_API_TOKEN", "PUSHOVER_USER_KEY"]
    for name in names:
        monkeypatch.delenv(f"RANGEBAR_{name}", raising=False)
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("RANGEBAR_EVENT_LOG", str(tmp_path / "events.jsonl"))
    events.clear_hooks()
    yield tmp_path / "events.jsonl"
    events.clear_hooks()
    disable_notifications()


def logged(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def call(name: str, symbol: str) -> object:
    """Call a public function with a symbol, and nothing sensible else."""
    function = getattr(rb, name)
    needed = {
        parameter.name: None
        for parameter in inspect.signature(function).parameters.values()
        if parameter.default is inspect.Parameter.empty
    }
    return function(**needed | {"symbol": symbol})


def test_the_functions_with_a_symbol_are_found() -> None:
    wanted = {"process_trades_chunked", "process_trades_polars", "process_trades_to_dataframe"}
    assert wanted <= set(GATED)


@pytest.mark.parametrize("name", GATED)
def test_every_function_with_a_symbol_asks_the_gate_before_anything_else(
    name: str, log: Path
) -> None:
    with pytest.raises(SymbolNotRegisteredError) as caught:
        call(name, "nosuchusdt")
    assert caught.value.symbol == "NOSUCHUSDT"
    assert caught.value.operation == name
    assert [line["operation"] for line in logged(log)] == [name]


def test_a_refusal_says_what_was_meant_and_how_to_add_it(log: Path, tmp_path: Path) -> None:
    with pytest.raises(SymbolNotRegisteredError) as caught:
        validate_symbol_registered("btcustd", operation="scan_ticks")
    message = str(caught.value)
    assert message.startswith("`BTCUSTD` is not registered (scan_ticks)\n\nhint: ")
    assert "did you mean `BTCUSDT`?" in message
    assert "[symbols.BTCUSTD]" in message
    assert str(tmp_path / "rangebar-polars" / "symbols.toml") in message
    assert isinstance(caught.value, ValueError)
    (line,) = logged(log)
    assert line["component"] == "symbol_registry"
    assert line["event_type"] == "symbol_not_registered"
    assert (line["symbol"], line["operation"]) == ("BTCUSTD", "scan_ticks")
    assert line["registered_count"] == 40


@pytest.mark.parametrize("mode", ["warn", "WARN", " Warn "])
def test_a_warning_gate_lets_through_and_warns_the_caller(
    mode: str, log: Path, monkeypatch: pytest.MonkeyPatch, day: pl.DataFrame
) -> None:
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", mode)
    with pytest.warns(SymbolNotRegisteredWarning, match="NOSUCHUSDT") as caught:
        bars = rb.process_trades_polars(day, 250, symbol="nosuchusdt")
    assert [warning.filename for warning in caught] == [__file__]
    assert bars.height == 2
    assert len(logged(log)) == 1


def test_the_hint_names_the_next_weaker_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SymbolNotRegisteredError, match="or set RANGEBAR_SYMBOL_GATE=warn"):
        validate_symbol_registered("nosuchusdt")
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "warn")
    with pytest.warns(SymbolNotRegisteredWarning, match="or set RANGEBAR_SYMBOL_GATE=off"):
        validate_symbol_registered("nosuchusdt")


def test_names_of_coins_are_no_symbols() -> None:
    with pytest.raises(SymbolNotRegisteredError) as caught:
        rb.scan_ticks(rb.TIER1_SYMBOLS, "2024-01-01", "2024-01-02")
    assert str(caught.value).endswith('rb.tier1_pairs("USDT") returns their symbols')


@pytest.mark.parametrize("mode", ["off", "OFF"])
def test_a_gate_that_is_off_lets_through_in_silence(
    mode: str, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", mode)
    assert validate_symbol_registered("nosuchusdt") == "NOSUCHUSDT"
    assert validate_and_clamp_start_date("nosuchusdt", "2017-01-01") == "2017-01-01"
    assert logged(log) == []


@pytest.mark.parametrize("mode", ["of", "strictly", "0"])
def test_a_mode_that_does_not_exist_is_an_error(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", mode)
    for symbol in ("BTCUSDT", "NOSUCHUSDT"):
        with pytest.raises(SettingError, match=r"RANGEBAR_SYMBOL_GATE.*strict, warn or off"):
            validate_symbol_registered(symbol)


@pytest.mark.parametrize("symbol", ["BTCUSDT", "btcusdt", "BtcUsdt", " btcusdt "])
def test_a_symbol_may_be_in_any_letter_case(symbol: str, log: Path) -> None:
    assert validate_symbol_registered(symbol) == "BTCUSDT"
    assert logged(log) == []


@pytest.mark.parametrize("symbol", ["", "BTC/USDT", "../x", "BTC", "BTCUSDT\n.x"])
def test_what_is_no_symbol_is_refused(symbol: str) -> None:
    with pytest.raises(SymbolNotRegisteredError):
        validate_symbol_registered(symbol)


@pytest.mark.parametrize("symbol", [None, 1, b"BTCUSDT", ["BTCUSDT"]])
def test_a_symbol_must_be_text(symbol: object) -> None:
    for door in (
        validate_symbol_registered,
        lambda s: validate_and_clamp_start_date(s, "2024-01-01"),
    ):
        with pytest.raises(TypeError, match="must be text"):
            door(symbol)


def test_a_disabled_symbol_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[symbols.BTCUSDT]\nenabled = false\n")
    monkeypatch.setenv("RANGEBAR_SYMBOLS", str(file))
    with pytest.raises(
        SymbolNotRegisteredError, match=r"(?s)not enabled.*enabled = true"
    ) as caught:
        validate_symbol_registered("BTCUSDT")
    assert str(file) in str(caught.value)
    with pytest.raises(SymbolNotRegisteredError):
        validate_and_clamp_start_date("BTCUSDT", "2024-01-01")


def test_of_a_list_all_are_judged_before_any_is_worked_on(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    symbols = ["btcusdt", "nosuch", "ETHUSDT", "neither", "NOSUCH"]
    with pytest.raises(SymbolNotRegisteredError, match="`NOSUCH`, `NEITHER` are not registered"):
        validate_symbols_registered(symbols)
    assert [line["symbol"] for line in logged(log)] == ["NOSUCH", "NEITHER"]
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "warn")
    with pytest.warns(SymbolNotRegisteredWarning) as caught:
        names = validate_symbols_registered(symbols)
    assert names == ("BTCUSDT", "NOSUCH", "ETHUSDT", "NEITHER", "NOSUCH")
    assert len(caught) == 1
    with pytest.raises(TypeError, match=r'\["BTCUSDT"\]'):
        validate_symbols_registered("BTCUSDT")


NEW_YORK_WINTER = timezone(timedelta(hours=-5))
STARTS = [
    ("2017-09-01", "2018-01-16"),
    ("2018-1-5", "2018-01-16"),
    (date(2017, 9, 1), date(2018, 1, 16)),
    (datetime(2017, 9, 1, 12, tzinfo=UTC), datetime(2018, 1, 16, tzinfo=UTC)),
    (
        datetime(2018, 1, 15, 18, 59, tzinfo=NEW_YORK_WINTER),
        datetime(2018, 1, 15, 19, tzinfo=NEW_YORK_WINTER),
    ),
]


@pytest.mark.parametrize(("start", "clamped"), STARTS)
def test_a_start_before_the_effective_one_is_moved_and_the_caller_warned(
    start: str | date, clamped: str | date
) -> None:
    with pytest.warns(StartDateClampedWarning, match="2018-01-16") as caught:
        moved = validate_and_clamp_start_date("btcusdt", start)
    assert moved == clamped
    assert type(moved) is type(clamped)
    assert [warning.filename for warning in caught] == [__file__]
    assert issubclass(StartDateClampedWarning, UserWarning)
    if isinstance(moved, datetime):
        assert moved.utcoffset() == clamped.utcoffset()


@pytest.mark.parametrize(
    "start",
    ["2018-01-16", "2024-03-01", date(2018, 1, 16), datetime(2018, 1, 16, tzinfo=UTC),
     datetime(2018, 1, 15, 19, tzinfo=NEW_YORK_WINTER)],
)  # fmt: skip
def test_a_start_at_or_after_the_effective_one_stays_as_it_is(start: str | date) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert validate_and_clamp_start_date("BTCUSDT", start) is start
        assert validate_and_clamp_start_date("SOLUSDT", start) is start


@pytest.mark.parametrize("start", ["2018-13-5", "yesterday", 20180105])
def test_a_start_that_is_no_date_is_refused(start: object) -> None:
    with pytest.raises((ValueError, TypeError), match="start"):
        validate_and_clamp_start_date("BTCUSDT", start)


def test_a_naive_start_is_utc() -> None:
    early, effective = datetime(2018, 1, 5), datetime(2018, 1, 16)  # noqa: DTZ001
    with pytest.warns(StartDateClampedWarning):
        assert validate_and_clamp_start_date("BTCUSDT", early) == effective
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert validate_and_clamp_start_date("BTCUSDT", effective) is effective


def test_the_gate_comes_before_the_threshold(day: pl.DataFrame) -> None:
    with pytest.raises(SymbolNotRegisteredError):
        rb.process_trades_polars(day, 0, symbol="NOSUCHUSDT")
    with pytest.raises(ThresholdError):
        rb.process_trades_polars(day, 10, symbol="BTCUSDT")


def test_a_threshold_below_the_minimum_is_an_event(log: Path) -> None:
    with pytest.raises(ThresholdError):
        rb.resolve_and_validate_threshold("shibusdt", "medium")
    (line,) = logged(log)
    assert line.pop("timestamp")
    assert line == {
        "component": "threshold_validation", "event_type": "threshold_violation",
        "symbol": "SHIBUSDT", "threshold_requested": 250, "threshold_minimum": 750,
        "asset_class": "crypto", "trace_id": None,
    }  # fmt: skip


REFUSED_TWICE = """
import os, sys
for name in list(os.environ):
    if name.startswith(("RANGEBAR_", "PUSHOVER_")):
        del os.environ[name]
os.environ["XDG_CONFIG_HOME"] = os.environ["HOME"] = os.getcwd()
import rangebar_polars as rb
from rangebar_polars.symbol_registry import validate_symbol_registered
seen = []
def watch(event, arguments):
    writing = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writing or event.startswith(("socket.", "os.mkdir", "subprocess.")):
        seen.append((event, arguments))
sys.dont_write_bytecode = True
sys.addaudithook(watch)
try:
    validate_symbol_registered("NOSUCHUSDT")
except ValueError:
    pass
try:
    rb.resolve_and_validate_threshold("BTCUSDT", 10)
except ValueError:
    pass
print(seen, "apprise" in sys.modules)
"""


def test_who_has_set_nothing_gets_no_file_no_message_and_no_output(tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    command = [sys.executable, "-c", REFUSED_TWICE]
    run = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=1200, check=False
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "[] False\n", "")
    assert list(folder.iterdir()) == []


@contextmanager
def pushover(monkeypatch: pytest.MonkeyPatch, status: int = 200) -> Iterator[list[dict]]:
    """Stand in for Pushover's server on loopback; gives the forms that it gets."""
    plugin = pytest.importorskip("apprise.plugins.pushover").NotifyPushover
    forms: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            forms.append({key: values[0] for key, values in parse_qs(body).items()})
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"status": 1}')

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/1/messages.json"
        monkeypatch.setattr(plugin, "notify_url", address)
        monkeypatch.setattr(plugin, "request_rate_per_sec", 0)
        try:
            yield forms
        finally:
            server.shutdown()
            thread.join()


def refused(symbol: str) -> None:
    with pytest.raises(SymbolNotRegisteredError):
        validate_symbol_registered(symbol, operation="scan_ticks")
    assert events.flush_hooks(600)


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # which apprise imports on Python 3.11
def test_a_user_with_both_keys_is_alerted_once_for_a_symbol(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pushover(monkeypatch) as forms:
        refused("NOSUCHUSDT")
        assert forms == []
        for name, value in KEYS.items():
            monkeypatch.setenv(name, value)
            # One key alone is not enough; with both the alert goes out, once.
            refused("NOSUCHUSDT")
            refused("NOSUCHUSDT")
        (form,) = forms
        assert form["user"] == "u" * 30
        assert (form["priority"], form["retry"], form["expire"]) == ("2", "30", "3600")
        assert "NOSUCHUSDT" in form["message"]
        assert "scan_ticks" in form["message"]
        assert form["title"] == "rangebar: symbol not registered"
        with pytest.raises(ThresholdError):
            rb.resolve_and_validate_threshold("BTCUSDT", 10)
        assert events.flush_hooks(600)
        assert [form["priority"] for form in forms] == ["2", "0"]
        monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "off")
        validate_symbol_registered("OTHERUSDT")
        assert events.flush_hooks(600)
        assert len(forms) == 2


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")  # which apprise imports on Python 3.11
def test_an_alert_says_whether_it_was_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with pushover(monkeypatch) as forms:
        for name, value in KEYS.items():
            assert not send_critical_alert("Title", "Text")
            monkeypatch.setenv(name, value)
        assert forms == []
        assert send_critical_alert("Title & more", "Text", "https://example.org/?a=b&c", "See")
        assert (forms[0]["title"], forms[0]["url"]) == (
            "Title & more",
            "https://example.org/?a=b&c",
        )
    with pushover(monkeypatch, status=400):
        assert not send_critical_alert("Title", "Text")
        refused("NOSUCHUSDT")
    monkeypatch.setenv("RANGEBAR_PUSHOVER_USER_KEY", "too-short")
    assert not send_critical_alert("Title", "Text")
