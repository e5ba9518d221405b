"""Settings: where a value comes from, and what is said of a wrong one."""

from __future__ import annotations

import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import platformdirs
import pytest
from platformdirs import macos, unix, windows

from rangebar_polars.config import Settings, minimum_threshold_setting, platform_folder, settings
from rangebar_polars.exceptions import SettingError

# What the file, the environment and an argument say, one more binding than the other.
ADDRESSES = ("http://file", "http://variable", "http://argument")
BASES = ("wss://of-file:1/a", "ws://of-variable,wss://other", "wss://of-argument")
TEXTS = ("of-file", "of-variable", "of-argument")
PATHS = ("/of/file", "/of/variable", "/of/argument")
NUMBERS = (11, "12", 13)
GIVEN = {
    "cache_dir": PATHS,
    "symbols": PATHS,
    "symbol_gate": ("off", "WARN", "strict"),
    "crypto_min_threshold": NUMBERS,
    "forex_min_threshold": NUMBERS,
    "equities_min_threshold": NUMBERS,
    "unknown_min_threshold": NUMBERS,
    "binance_archive_url": ADDRESSES,
    "binance_rest_url": ADDRESSES,
    "exness_url": ADDRESSES,
    "binance_stream_url": BASES,
    "binance_um_stream_url": BASES,
    "binance_cm_stream_url": BASES,
    "streaming_symbols": ("btcusdt", "ethusdt,solusdt", "xrpusdt"),
    "streaming_thresholds": ("250", "500,750", "1000"),
    "streaming_microstructure": (True, "no", True),
    "streaming_gap_fill": (True, "no", True),
    "streaming_verbose": (True, "no", True),
    "streaming_watchdog_timeout_s": (1, "2.5", 3.5),
    "streaming_notify": ("off", "FAILURES", "off"),
    "max_pending_bars": NUMBERS,
    "health_port": NUMBERS,
    "health_host": TEXTS,
    "checksum": ("require", "Warn", "require"),
    "http_tries": NUMBERS,
    "http_timeout_s": (1, "2.5", 3.5),
    "http_total_timeout_s": (1, "2.5", 3.5),
    "http_min_bytes_per_s": (0, "5", 7),
    "rest_weight_per_minute": NUMBERS,
    "verbose": (True, "no", True),
    "event_log": PATHS,
    "pushover_api_token": TEXTS,
    "pushover_user_key": TEXTS,
    "telegram_token": TEXTS,
    "telegram_chat_id": TEXTS,
    "notify_urls": ("json://a", "json://b?c=d,e,xmls://f/g", "jsons://h"),
    "plugins": ("off", "STRICT", "on"),
    "clickhouse_dsn": TEXTS,
    "cache_wait_s": (1, "2.5", 3.5),
    "tick_lock_wait_s": (1, "2.5", 3.5),
    "cache_idle_s": (1, "2.5", 3.5),
}
SECRETS = {
    "pushover_api_token",
    "pushover_user_key",
    "telegram_token",
    "telegram_chat_id",
    "notify_urls",
    "clickhouse_dsn",
}
WRONG = {
    "cache_dir": 7,
    "symbols": False,
    "symbol_gate": "warm",
    "crypto_min_threshold": 0,
    "forex_min_threshold": 100_001,
    "equities_min_threshold": "medium",
    "unknown_min_threshold": 2.5,
    "binance_archive_url": "data.binance.vision",
    "binance_rest_url": "ftp://here",
    "exness_url": "here",
    "binance_stream_url": "http://here",
    "binance_um_stream_url": "wss://here,",
    "binance_cm_stream_url": "wss://",
    "checksum": "maybe",
    "http_tries": True,
    "http_timeout_s": "nan",
    "http_total_timeout_s": 0,
    "http_min_bytes_per_s": -1,
    "rest_weight_per_minute": -1,
    "verbose": "perhaps",
    "event_log": 7,
    "pushover_api_token": 7,
    "pushover_user_key": 7,
    "telegram_token": 7,
    "telegram_chat_id": 7,
    "notify_urls": 7,
    "plugins": "never",
    "clickhouse_dsn": 7,
    "cache_wait_s": -1,
    "tick_lock_wait_s": -1,
    "cache_idle_s": -1,
    "streaming_symbols": 7,
    "streaming_thresholds": "low",
    "streaming_microstructure": "perhaps",
    "streaming_gap_fill": "perhaps",
    "streaming_verbose": "perhaps",
    "streaming_watchdog_timeout_s": 0,
    "streaming_notify": "all",
    "max_pending_bars": 0,
    "health_port": 65_536,
    "health_host": False,
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the configuration folder, which is empty, as the environment is."""
    for item in fields(Settings):
        for name in (f"RANGEBAR_{item.name.upper()}", *item.metadata["setting"].other_variables):
            monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "rangebar-polars"
    path.mkdir()
    return path


def toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def comparable(value: object) -> object:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, (str, Path)) else value


def test_every_setting_is_tested() -> None:
    names = {item.name for item in fields(Settings)} - {"config"}
    assert set(GIVEN) == set(WRONG) == names


@pytest.mark.parametrize("name", GIVEN)
def test_an_argument_wins_over_a_variable_over_the_file_over_the_default(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_file, of_variable, of_argument = GIVEN[name]
    default = getattr(settings(), name)
    (folder / "config.toml").write_text(f"{name} = {toml(of_file)}\n")
    assert comparable(getattr(settings(), name)) == comparable(of_file)
    monkeypatch.setenv(f"RANGEBAR_{name.upper()}", str(of_variable))
    text = comparable(getattr(settings(), name))
    assert text == (False if of_variable == "no" else type(text)(comparable(of_variable)))
    chosen = getattr(settings(**{name: of_argument}), name)
    assert comparable(chosen) == comparable(of_argument)
    assert isinstance(chosen, type(default)) or default is None
    assert getattr(settings(**{name: None}), name) == getattr(settings(), name)
    monkeypatch.setenv(f"RANGEBAR_{name.upper()}", "")
    assert comparable(getattr(settings(), name)) == comparable(of_file)


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_an_error_that_says_where_it_stands(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong, variable = WRONG[name], f"RANGEBAR_{name.upper()}"
    with pytest.raises(SettingError, match=f"the argument `{name}` is"):
        settings(**{name: wrong})
    if isinstance(wrong, str) or name.endswith(("threshold", "_minute", "_wait_s")):
        monkeypatch.setenv(variable, str(wrong))
        with pytest.raises(SettingError, match=f"the variable `{variable}` is `{wrong}`"):
            settings()
        monkeypatch.delenv(variable)
    file = folder / "config.toml"
    file.write_text(f"{name} = {toml(wrong)}\n")
    with pytest.raises(SettingError) as caught:
        settings()
    assert f"`{name}` in `{file}` is" in str(caught.value)


@pytest.mark.parametrize("wrong", [-0.001, "-1", "inf", "nan", True, "soon"])
def test_a_wait_is_a_number_of_seconds_and_may_be_0(
    wrong: object, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(cache_wait_s=0).cache_wait_s == 0.0
    (folder / "config.toml").write_text("cache_wait_s = 0\n")
    assert settings().cache_wait_s == 0.0
    monkeypatch.setenv("RANGEBAR_CACHE_WAIT_S", "0.0")
    assert settings().cache_wait_s == 0.0
    with pytest.raises(SettingError, match="a number of seconds, 0 or more"):
        settings(cache_wait_s=wrong)
    with pytest.raises(SettingError, match="a number of seconds above 0"):
        settings(http_timeout_s=0)


def test_an_error_names_the_choices_and_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_SYMBOL_GATE", "strickt")
    with pytest.raises(SettingError, match=r"(?s)strict, warn or off.*hint: did you mean `strict`"):
        settings()


def test_secrets_are_neither_shown_nor_in_errors() -> None:
    given = {name: f"hidden://hidden-{name}" for name in SECRETS}
    assert "hidden" not in repr(settings(**given))
    for name in SECRETS:
        with pytest.raises(SettingError) as caught:
            settings(**{name: 918_273})
        assert "918273" not in str(caught.value)


def test_addresses_of_notifications_may_contain_commas() -> None:
    two = settings(notify_urls="mailto://a?to=b@c,d@e , json://f").notify_urls
    assert two == ("mailto://a?to=b@c,d@e", "json://f")
    for wrong in ("hidden", "json://", "json://hidden,json://hidden", "json:// hidden", [], [7]):
        with pytest.raises(SettingError, match="an address of apprise") as caught:
            settings(notify_urls=wrong)
        assert "hidden" not in str(caught.value)


def test_pushover_keys_have_their_plain_names_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUSHOVER_API_TOKEN", "plain")
    assert settings().pushover_api_token == "plain"
    monkeypatch.setenv("RANGEBAR_PUSHOVER_API_TOKEN", "own")
    assert settings().pushover_api_token == "own"


def test_a_key_that_is_no_setting_is_an_error_naming_the_nearest(folder: Path) -> None:
    (folder / "config.toml").write_text('symbol_gat = "warn"\n')
    with pytest.raises(SettingError, match=r"(?s)`symbol_gat` in .*did you mean `symbol_gate`"):
        settings()
    (folder / "config.toml").write_text('config = "other.toml"\n')
    with pytest.raises(SettingError, match="`config`"):
        settings()
    with pytest.raises(TypeError, match="did you mean `cache_dir`"):
        settings(cache_dri="x")


def test_another_file_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "other.toml"
    other.write_text("http_tries = 7\n")
    assert settings(config=other).http_tries == 7
    monkeypatch.setenv("RANGEBAR_CONFIG", str(other))
    assert settings().http_tries == 7
    assert settings().config == other
    other.unlink()
    with pytest.raises(SettingError, match=r"other\.toml"):
        settings()


@pytest.mark.parametrize(
    "content", [b"http_tries = ", b"http_tries = 1\nhttp_tries = 2", b'a = "\xff"']
)
def test_a_file_that_is_no_toml_is_an_error(content: bytes, folder: Path) -> None:
    (folder / "config.toml").write_bytes(content)
    with pytest.raises(SettingError, match=r"config\.toml` is not a TOML file"):
        settings()


def test_a_relative_path_in_the_file_starts_from_its_folder(folder: Path) -> None:
    (folder / "config.toml").write_text('cache_dir = "ticks"\nevent_log = "~/events.jsonl"\n')
    assert settings().cache_dir == folder / "ticks"
    assert settings().event_log == Path.home() / "events.jsonl"


def test_the_users_symbols_are_a_file_of_the_configuration_folder(folder: Path) -> None:
    assert settings().symbols is None
    (folder / "symbols.toml").touch()
    assert settings().symbols == folder / "symbols.toml"


def test_an_address_ends_without_a_stroke() -> None:
    assert settings(exness_url="file:///folder/").exness_url == "file:///folder"


@pytest.mark.parametrize("home", [None, "absolute", "relative/folder"])
def test_folders_are_those_of_platformdirs(
    home: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for use in ("CACHE", "CONFIG"):
        monkeypatch.delenv(f"XDG_{use}_HOME")
        if home is not None:
            value = str(tmp_path / "of-xdg") if home == "absolute" else home
            monkeypatch.setenv(f"XDG_{use}_HOME", value)
    local = "C:\\Users\\someone\\AppData\\Local"
    monkeypatch.setenv("LOCALAPPDATA", local)
    monkeypatch.setenv("WIN_PD_OVERRIDE_LOCAL_APPDATA", local)
    for platform, folders in (
        ("linux", unix.Unix("rangebar-polars")),
        ("darwin", macos.MacOS("rangebar-polars")),
        ("win32", windows.Windows("rangebar-polars", appauthor=False)),
    ):
        assert platform_folder("cache", platform) == Path(folders.user_cache_dir)
        assert platform_folder("config", platform) == Path(folders.user_config_dir)
    assert platform_folder("cache") == Path(platformdirs.user_cache_dir("rangebar-polars", False))


def test_the_minimum_of_a_symbol_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", "40")
    assert minimum_threshold_setting("btcusdt") == 40
    for wrong in ("medium", "0", "100001", "2.5"):
        monkeypatch.setenv("RANGEBAR_MIN_THRESHOLD_BTCUSDT", wrong)
        with pytest.raises(SettingError, match=f"RANGEBAR_MIN_THRESHOLD_BTCUSDT` is `{wrong}`"):
            minimum_threshold_setting("BTCUSDT")


def test_streams_have_one_or_several_bases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_BINANCE_STREAM_URL", " wss://one/ , ws://two:9443/market ")
    assert settings().binance_stream_url == ("wss://one", "ws://two:9443/market")
    chosen = settings(binance_stream_url=["wss://one", "wss://two"])
    assert chosen.binance_stream_url == ("wss://one", "wss://two")
    for wrong in (
        "wss://one,wss://one/",
        "wss://one?x=1",
        "wss://one#x",
        "wss://me@one",
        "wss://one:port",
        "wss://one:0",
        "wss:// one",
        [],
        ["wss://one", 7],
    ):
        with pytest.raises(SettingError, match="the argument `binance_stream_url` is"):
            settings(binance_stream_url=wrong)
    with pytest.raises(SettingError) as caught:
        settings(binance_stream_url="wss://me:secret@one")
    assert "secret" not in str(caught.value)


def test_settings_need_no_library(tmp_path: Path) -> None:
    code = (
        "import sys; from rangebar_polars.config import settings; settings();"
        "print({n.partition('.')[0] for n in sys.modules} & {'pydantic', 'platformdirs', 'httpcore2'})"
    )
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_the_reference_of_the_settings_is_that_of_the_code(root: Path) -> None:
    generate = runpy.run_path(str(root / "docs" / "reference" / "generate.py"))
    page = generate["SETTINGS_PAGE"].read_text(encoding="utf-8")
    assert page == generate["settings_page"]()
    for item in fields(Settings):
        assert f"`RANGEBAR_{item.name.upper()}`" in page
