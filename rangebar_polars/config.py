"""Settings: an argument wins over the environment, then a TOML file, then the default.

No other module reads the environment. Each field of `Settings` describes one setting, from which
parsing, error messages and `docs/reference/settings.md` follow. A settings library is not used,
because the symbol gate reads its mode and must work with Polars alone.
"""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from rangebar_polars._files.folders import application_folder
from rangebar_polars._files.toml import is_there, read_toml
from rangebar_polars._text import shown
from rangebar_polars._utils.address import Address
from rangebar_polars._utils.settings.live import LiveSettings, about
from rangebar_polars._utils.settings.types import (
    ADDRESS,
    COUNT,
    DSN,
    PATH,
    RATE,
    SECONDS,
    SWITCH,
    TEXT,
    THRESHOLD,
    WAIT,
    choice,
)
from rangebar_polars._utils.symbol_names import upper_name, variable_suffix
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.exceptions import (
    SettingError,
    UnknownVariableWarning,
    nearest,
    with_hint,
)
from rangebar_polars.installation.variables import MINIMUM_THRESHOLD, is_worker, nearest_variables

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from dataclasses import Field

    from rangebar_polars._utils.settings.live import Described
    from rangebar_polars._utils.settings.types import Kind

__all__ = [
    "Settings",
    "Written",
    "config_file_values",
    "config_folder",
    "in_time_zone",
    "minimum_threshold_setting",
    "minimum_threshold_variables",
    "parsed_value",
    "proxy_of",
    "require_known",
    "setting_fields",
    "settings",
    "time_zone_variable",
    "unknown_variables",
    "variable_of",
    "variables_set",
    "written_value",
]

_ZONE_LOCK = Lock()
_PROXIES_OF_STREAMS = {
    "ws": ("ws", "socks", "https", "http"),
    "wss": ("wss", "socks", "https"),
}


def platform_folder(use: Literal["cache", "config"], platform: str = sys.platform) -> Path:
    """Return the folder of this application for a use, by the convention of the platform."""
    name = "LOCALAPPDATA" if platform == "win32" else f"XDG_{use.upper()}_HOME"
    home = os.path.expanduser("~")  # noqa: PTH111  (text is faster, and every call reads it)
    return application_folder(use, platform, os.environ.get(name, ""), home)


def config_folder() -> Path:
    """Return the folder of `config.toml` and `symbols.toml`.

    Examples
    --------
    >>> from rangebar_polars.config import config_folder
    >>> config_folder().name
    'rangebar-polars'
    """
    return platform_folder("config")


def _cache_folder() -> Path:
    return platform_folder("cache")


def _config_file() -> Path:
    return config_folder() / "config.toml"


def _symbols_file() -> Path | None:
    path = config_folder() / "symbols.toml"
    return path if is_there(path) and path.is_file() else None


@dataclass(frozen=True, slots=True)
class Settings(LiveSettings):
    """All settings with their values, as `settings()` returns them. The `repr` hides secrets."""

    cache_dir: Path = field(
        default_factory=_cache_folder,
        metadata=about(
            PATH,
            "Folder of the tick store and of the embedded bar cache.",
            "the platform's cache folder",
        ),
    )
    config: Path = field(
        default_factory=_config_file,
        metadata=about(PATH, "The settings file.", "`config.toml` in the configuration folder"),
    )
    symbols: Path | None = field(
        default_factory=_symbols_file,
        metadata=about(
            PATH,
            "Your own symbols, merged over those of the package.",
            "`symbols.toml` in the configuration folder, if it is there",
        ),
    )
    symbol_gate: Literal["strict", "warn", "off"] = field(
        default="strict",
        metadata=about(
            choice("strict", "warn", "off"),
            "What a symbol that is not registered leads to: an error, a warning, nothing.",
        ),
    )
    crypto_min_threshold: int = field(
        default=250, metadata=about(THRESHOLD, "Smallest threshold of a crypto symbol.")
    )
    forex_min_threshold: int = field(
        default=50, metadata=about(THRESHOLD, "Smallest threshold of a forex symbol.")
    )
    equities_min_threshold: int = field(
        default=100, metadata=about(THRESHOLD, "Smallest threshold of a share.")
    )
    unknown_min_threshold: int = field(
        default=1, metadata=about(THRESHOLD, "Smallest threshold of any other symbol.")
    )
    binance_archive_url: str = field(
        default=Address("https://data.binance.vision"),
        metadata=about(ADDRESS, "Stands before `/data/…` of the archive."),
    )
    binance_rest_url: str | None = field(
        default=None,
        metadata=about(
            ADDRESS,
            "Stands before `/api/v3`, `/fapi/v1` and `/dapi/v1`.",
            "Binance's own for each market",
        ),
    )
    exness_url: str = field(
        default=Address("https://ticks.ex2archive.com"),
        metadata=about(ADDRESS, "Stands before `/ticks/…` of the archive."),
    )
    checksum: Literal["require", "warn"] = field(
        default="require",
        metadata=about(
            choice("require", "warn"),
            "What an archive without a checksum leads to: an error, or a warning.",
        ),
    )
    http_tries: int = field(
        default=5, metadata=about(COUNT, "Tries of a request before it counts as failed.")
    )
    http_timeout_s: float = field(
        default=30.0,
        metadata=about(SECONDS, "How long to wait for an answer, and for each part of it."),
    )
    http_total_timeout_s: float = field(
        default=3600.0,
        metadata=about(SECONDS, "Longest time of one request, with its answer and redirects."),
    )
    http_min_bytes_per_s: int = field(
        default=1024,
        metadata=about(
            RATE,
            "Slowest transfer to accept, on average over `http_timeout_s`; 0 accepts any.",
        ),
    )
    rest_weight_per_minute: int = field(
        default=3000,
        metadata=about(
            COUNT,
            "Request weight to use in a minute; the exchange's limit is 6000 or less. Live bars use "
            "up to half as much again, so that a population leaves room for them.",
        ),
    )
    verbose: bool = field(default=True, metadata=about(SWITCH, "Show progress bars on a terminal."))
    event_log: Path | None = field(
        default=None,
        metadata=about(PATH, "File to which events are appended, one JSON object a line.", "none"),
    )
    pushover_api_token: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            TEXT,
            "Your Pushover application. Alerts are sent only when both keys are set.",
            "none",
            ("PUSHOVER_API_TOKEN",),
        ),
    )
    pushover_user_key: str | None = field(
        default=None,
        repr=False,
        metadata=about(
            TEXT, "Your Pushover account, to which alerts go.", "none", ("PUSHOVER_USER_KEY",)
        ),
    )
    telegram_token: str | None = field(
        default=None, repr=False, metadata=about(TEXT, "Your Telegram bot.", "none")
    )
    telegram_chat_id: str | None = field(
        default=None, repr=False, metadata=about(TEXT, "Your Telegram chat.", "none")
    )
    plugins: Literal["on", "off", "strict"] = field(
        default="on",
        metadata=about(choice("on", "off", "strict"), "Feature plugins; `strict` raises errors."),
    )
    tick_lock_wait_s: float = field(
        default=30.0,
        metadata=about(
            WAIT,
            "How long to wait for another writer of the same ticks that makes no progress; with 0, "
            "not at all.",
        ),
    )
    clickhouse_dsn: str | None = field(
        default=None,
        repr=False,
        metadata=about(DSN, "ClickHouse server of the bar cache.", "an embedded one"),
    )
    cache_wait_s: float = field(
        default=30.0,
        metadata=about(
            WAIT, "How long to wait for a bar cache that is in use; with 0, not at all."
        ),
    )
    cache_idle_s: float = field(
        default=60.0,
        metadata=about(
            WAIT,
            "How long an embedded bar cache stays open after a call, unless another process waits "
            "for it; doubled each time that it passes. With 0, every call closes it.",
        ),
    )


def setting_fields() -> list[Field[Any]]:
    """Return the fields of all settings, those of live bars last."""
    live = {item.name for item in fields(LiveSettings)}
    return sorted(fields(Settings), key=lambda item: item.name in live)


@cache
def _fields() -> dict[str, Field[Any]]:
    return {item.name: item for item in setting_fields()}


def settings(**arguments: object) -> Settings:
    """Read the current settings.

    Nothing is cached, so the next call sees a changed variable or file.

    Parameters
    ----------
    **arguments
        Values that win over the environment and the file. None leaves the setting to them.

    Raises
    ------
    SettingError
        A value is not valid, or a key of the file is not a setting. The message says where.

    Examples
    --------
    >>> from rangebar_polars.config import settings
    >>> settings(symbol_gate="Warn", http_tries=None).symbol_gate
    'warn'
    >>> settings(checksum="maybe")
    Traceback (most recent call last):
        ...
    rangebar_polars.exceptions.SettingError: the argument `checksum` is `maybe`, which is not \
require or warn
    """
    require_known(arguments)
    _warn_of_misspelt_variables()
    table = config_file_values(arguments)
    found = ((name, written_value(name, arguments, table)) for name in _fields())
    return Settings(**{name: parsed_value(name, item) for name, item in found if item is not None})


def require_known(arguments: Mapping[str, object]) -> None:
    """Check that arguments are settings."""
    known = _fields()
    for name in arguments:
        if name not in known:
            raise TypeError(_unknown(f"there is no setting `{name}`", name, known))


@dataclass(frozen=True, slots=True)
class Written:
    """A value as the user wrote it, and where it stands."""

    value: object
    origin: Literal["argument", "environment", "file"]
    #: The argument, the variable or the path of the file.
    by: str
    #: The place in a sentence.
    place: str
    folder: Path = field(default_factory=Path)


def written_value(
    name: str, arguments: Mapping[str, object], table: Mapping[str, Written]
) -> Written | None:
    """Return the value that is in force for a setting, as it is written; None for the default."""
    if arguments.get(name) is not None:
        return Written(arguments[name], "argument", name, f"the argument `{name}`")
    described: Described = _fields()[name].metadata["setting"]
    for variable in (variable_of(name), *described.other_variables):
        if text := os.environ.get(variable, "").strip():
            return Written(text, "environment", variable, f"the variable `{variable}`")
    return table.get(name)


def parsed_value(name: str, written: Written) -> Any:  # noqa: ANN401
    """Parse the value of a setting."""
    item = _fields()[name]
    kind: Kind = item.metadata["setting"].kind
    value = kind.value(written.value, written.place, secret=not item.repr)
    # A relative path in a file starts from the file's folder.
    return written.folder / value if isinstance(value, Path) else value


def variable_of(name: str) -> str:
    """Return the variable of a setting."""
    return f"RANGEBAR_{name.upper()}"


def config_file_values(arguments: Mapping[str, object]) -> dict[str, Written]:
    """Read the keys of the settings file, which may be missing unless the user names it.

    Raises
    ------
    SettingError
        The file cannot be read, or has a key that is not a setting.
    """
    named = written_value("config", arguments, {})
    path = _config_file() if named is None else parsed_value("config", named)
    if named is None and not is_there(path):
        return {}
    known = _fields().keys() - {"config"}
    table = read_toml(path)
    for key in table:
        if key not in known:
            raise SettingError(
                _unknown(f"`{shown(key)}` in `{shown(path)}` is not a setting", key, known)
            )
    return {
        key: Written(value, "file", str(path), f"`{key}` in `{shown(path)}`", path.parent)
        for key, value in table.items()
    }


def _unknown(sentence: str, name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return with_hint(sentence, f"did you mean `{near}`?") if near else sentence


def minimum_threshold_variables() -> dict[str, str]:
    """Return the variables of smallest thresholds that are set, by the end of their names."""
    return {
        name.removeprefix(MINIMUM_THRESHOLD): value
        for name, value in os.environ.items()
        if name.startswith(MINIMUM_THRESHOLD) and value.strip()
    }


#: Misspelt variables that this process has warned about.
_WARNED: set[str] = set()


def unknown_variables() -> dict[str, str | None]:
    """Return the set variables that resemble settings but are not, each with the nearest one.

    Examples
    --------
    >>> import os
    >>> from rangebar_polars.config import unknown_variables
    >>> os.environ["RANGEBAR_CACHEDIR"] = "/data"
    >>> unknown_variables()["RANGEBAR_CACHEDIR"]
    'RANGEBAR_CACHE_DIR'
    >>> del os.environ["RANGEBAR_CACHEDIR"]
    """
    names = [name for name in os.environ if name[:1] in "Rr"]
    # Checked first: every call reads the settings.
    names = [name for name in names if name not in _variables()]
    return nearest_variables(names, _variables()) if names else {}


@cache
def _variables() -> frozenset[str]:
    return frozenset(map(variable_of, _fields()))


def _warn_of_misspelt_variables() -> None:
    for name, near in unknown_variables().items():
        if near is not None and name not in _WARNED and not is_worker():
            _WARNED.add(name)
            sentence = f"the variable `{shown(name)}` is not a setting, and has no effect"
            hint = f"did you mean `{near}`?"
            warn_caller(with_hint(sentence, hint), UnknownVariableWarning)


def minimum_threshold_setting(symbol: str) -> int | None:
    """Return the smallest threshold that the user allows for a symbol, if it is set.

    It is the variable `RANGEBAR_MIN_THRESHOLD_<SYMBOL>`, in decimal basis points, with `_` for each
    of `-`, `.` and `/` in the symbol.

    Raises
    ------
    SettingError
        The variable is not a threshold.

    Examples
    --------
    >>> from rangebar_polars.config import minimum_threshold_setting
    >>> minimum_threshold_setting("NOTSET") is None
    True
    """
    variable = f"{MINIMUM_THRESHOLD}{variable_suffix(upper_name(symbol))}"
    text = os.environ.get(variable, "").strip()
    return int(THRESHOLD.value(text, f"the variable `{variable}`")) if text else None


def proxy_of(scheme: str, host: str) -> tuple[str, Address] | None:
    """Return the proxy for a host and the variable that names it; None for a direct connection.

    The variables are `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, in either letter case.
    Without them, the configuration of the system decides. For `ws` and `wss` the order is that of
    the library `websockets`.
    """
    from urllib.request import getproxies, proxy_bypass

    if proxy_bypass(host):
        return None
    found = getproxies()
    kinds = _PROXIES_OF_STREAMS.get(scheme, (scheme, "all"))
    kind = next((kind for kind in kinds if found.get(kind)), None)
    if kind is None:
        return None
    names = (f"{kind}_proxy", f"{kind}_proxy".upper())
    variable = next((name for name in names if os.environ.get(name)), names[0])
    proxy = found[kind]
    return variable, Address(proxy if "://" in proxy else f"http://{proxy}")


def variables_set(*names: str) -> dict[str, str]:
    """Return those of some variables of other programs that are set and not empty."""
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def time_zone_variable() -> str | None:
    """Return the variable `TZ`; None if it is not set."""
    return os.environ.get("TZ")


@contextmanager
def in_time_zone(zone: str) -> Iterator[None]:
    """Set the variable `TZ` within the block, for a library that reads it as it starts."""
    with _ZONE_LOCK:
        before = os.environ.get("TZ")
        os.environ["TZ"] = zone
        try:
            yield
        finally:
            if before is None:
                del os.environ["TZ"]
            else:
                os.environ["TZ"] = before
