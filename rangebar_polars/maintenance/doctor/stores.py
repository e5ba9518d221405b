"""Checks of the tick store and of the bar cache."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rangebar_polars._files.disk import Disk
from rangebar_polars._text import count_text
from rangebar_polars._utils import clock
from rangebar_polars._utils.arguments.checks import is_folder
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.clickhouse.connection.sql import literal
from rangebar_polars.clickhouse.damage import is_sound
from rangebar_polars.clickhouse.open import engine_use, open_target
from rangebar_polars.clickhouse.query.status import sizes, stored_series
from rangebar_polars.clickhouse.schema.migrate import check_schema
from rangebar_polars.config import proxy_of
from rangebar_polars.exceptions import CacheQueryError, CacheUnavailableError
from rangebar_polars.fetch.failures.causes import Cause, cause_of
from rangebar_polars.maintenance.doctor.findings import Finding, of_error
from rangebar_polars.storage.layout import fetch_hint, symbol_dirs
from rangebar_polars.storage.parquet import TickStorage
from rangebar_polars.storage.verify import inspect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date
    from pathlib import Path

    from rangebar_polars.clickhouse.connection.client import Cache
    from rangebar_polars.clickhouse.connection.dsn import Target
    from rangebar_polars.storage.layout import SymbolDir
    from rangebar_polars.storage.verify import Inspection

__all__ = ["check_bar_cache", "check_tick_store"]

TICKS, BARS = "tick store", "bar cache"
#: How long to wait for a cache that another process has open.
WAIT_S = 1.0
#: Ports of a server whose address has none.
PORTS = {"http": 8123, "https": 8443}


def check_tick_store(cache_dir: str | Path | None, budget_s: float) -> Iterator[Finding]:
    """Check the manifests and the sizes of the files, until the time is used up."""
    end = clock.monotonic() + budget_s
    storage = TickStorage(cache_dir)
    if not is_folder(storage.root):
        yield Finding(TICKS, "ticks", "ok", f"no ticks are stored in {storage.root}")
        return
    dirs = list(symbol_dirs(storage.root, None, None, None, Disk()))
    found: list[Inspection] = []
    for symbol_dir in dirs:
        if clock.monotonic() > end:
            break
        found.append(inspect(symbol_dir))
        yield from _faults(symbol_dir, found[-1])
    days, size = sum(one.days for one in found), sum(one.bytes for one in found) / 1e6
    symbols = count_text(len(found), "symbol")
    text = f"{symbols}, {count_text(days, 'day')}, {size:,.1f} MB in {storage.root}"
    if len(found) == len(dirs):
        yield Finding(TICKS, "ticks", "ok", text)
    else:
        text += f"; {len(dirs) - len(found):,} more could not be checked within {budget_s:g} s"
        yield Finding(TICKS, "ticks", "note", text, "rangebar ticks verify")


def _faults(symbol_dir: SymbolDir, found: Inspection) -> Iterator[Finding]:
    """Describe what is wrong with the ticks of a symbol."""
    name = symbol_dir.label
    for month in found.unreadable:
        text = f"the manifest of {month} cannot be read"
        yield Finding(TICKS, name, "problem", text, "`rangebar ticks verify` says why")
    for days, what in (
        (found.quarantined, "damaged and in quarantine"),
        (found.damaged, "with a file that is missing or has another size"),
    ):
        if days:
            hint = fetch_hint(symbol_dir, days[0], days[-1])
            yield Finding(TICKS, name, "problem", f"{_days(days)}: {what}", hint)


def _days(days: list[date]) -> str:
    return f"{count_text(len(days), 'day')} from {days[0]} on"


def check_bar_cache(
    dsn: str | None, cache_dir: str | Path | None, timeout_s: float, budget_s: float
) -> Iterator[Finding]:
    """Check whether the bar cache can be opened, its tables, and the files of an embedded one."""
    end = clock.monotonic() + budget_s
    target = resolve(dsn, cache_dir, wait_s=WAIT_S)
    if target.folder is not None and not target.folder.is_dir():
        yield Finding(BARS, "bars", "ok", f"no bars are cached in {target.folder}")
        return
    if target.folder is None:
        cause = _connection_fault(target, timeout_s)
        if cause is not None:
            yield Finding(BARS, "server", "problem", f"{target.address}: {cause.text}", cause.hint)
            return
    try:
        with open_target(target) as cache:
            yield from _of_cache(cache, end)
    except CacheUnavailableError as error:
        if error.holder is None or target.folder is None:
            raise
        text = f"process {error.holder} has {target.folder} open; the bars were not checked"
        yield Finding(BARS, "bars", "note", text, "rangebar cache status")


def _connection_fault(target: Target, timeout_s: float) -> Cause | None:
    """Return why a server does not answer; None if it does. The driver itself waits for minutes."""
    parts = urlsplit(target.dsn.full)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    if proxy_of(parts.scheme, host) is not None:
        return None
    connection = HTTPConnection(host, port, timeout=clock.real_seconds(timeout_s))
    where = "connection"
    try:
        connection.connect()
        if parts.scheme == "http":
            where = "answer"
            connection.request("GET", "/ping")
            connection.getresponse()
    except TimeoutError:
        text = f"timeout: no {where} from {host}:{port} within {timeout_s:g} s"
        return Cause(text, "check the address, the server and firewalls")
    except (OSError, HTTPException) as error:
        return cause_of(error, target.dsn)
    finally:
        connection.close()
    return None


def _of_cache(cache: Cache, end: float) -> Iterator[Finding]:
    """Check the tables of an open cache."""
    address = cache.target.address
    if not check_schema(cache):
        yield Finding(BARS, "bars", "ok", f"{address} has no tables yet")
        return
    series = stored_series(cache)
    size = float(sizes(cache)["bytes"].sum()) / 1e6
    bars = count_text(int(series["bars"].sum()), "bar")
    text = f"{count_text(series.height, 'series')}, {bars}, {size:,.1f} MB in {address}"
    yield Finding(BARS, "bars", "ok", text)
    for column, what, hint in (
        ("open_rebuilds", "unfinished rebuilds", "repeat the command that began them"),
        ("other_semantics", "series of another version of the rule", "rangebar cache upgrade"),
    ):
        count = int(series[column].sum())
        if count:
            yield Finding(BARS, column.replace("_", " "), "note", f"{count:,} {what}", hint)
    if cache.is_embedded:
        yield from _check_parts(cache, end)
        yield Finding(BARS, "engine", "ok", str(engine_use()))


def _check_parts(cache: Cache, end: float) -> Iterator[Finding]:
    """Check the checksums of the files, the smallest first, until the time is used up."""
    parts = cache.query(
        "SELECT table, name FROM system.parts "  # noqa: S608
        f"WHERE active AND database = {literal(cache.database)} ORDER BY bytes_on_disk"
    ).rows()
    checked = 0
    for table, name in parts:
        if clock.monotonic() > end:
            break
        checked += 1
        try:
            if is_sound(cache, table, name):
                continue
            text, hint = f"the part `{name}` of `{table}` is damaged", "rangebar cache drop"
        except CacheQueryError as error:
            text, hint = of_error(BARS, "files", error).text, of_error(BARS, "files", error).hint
        yield Finding(BARS, "files", "problem", text, hint)
    left = len(parts) - checked
    text = f"{count_text(checked, 'part')} checked"
    yield Finding(BARS, "files", "ok", f"{text}, {left:,} skipped: out of time" if left else text)
