"""All checks of this machine, each for a limited time."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from rangebar_polars.exceptions import SettingError, unknown_choice
from rangebar_polars.maintenance.doctor.findings import Check, Finding, of_error, run_checks
from rangebar_polars.maintenance.doctor.folders import (
    check_cache_folder,
    check_config_folder,
    check_event_log,
)
from rangebar_polars.maintenance.doctor.installed import (
    check_extras,
    check_settings,
    check_versions,
)
from rangebar_polars.maintenance.doctor.network import NETWORK, check_place, places
from rangebar_polars.maintenance.doctor.stores import check_bar_cache, check_tick_store
from rangebar_polars.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["examine"]

#: How long the checks of files may take, and how much longer to wait for an operation to end.
LOCAL_S, GRACE_S = 20.0, 40.0
#: The libraries of all extras are imported, which takes long on a slow disk.
IMPORTS_S = 120.0


def examine(
    *,
    cache_dir: str | Path | None = None,
    dsn: str | None = None,
    sources: Sequence[str] | None = None,
    offline: bool = False,
    timeout_s: float = 5.0,
) -> list[Finding]:
    """Check versions, extras, settings, folders, tick store, bar cache and sources.

    Nothing is changed but for files in the cache folder that are removed again. Each check ends
    after a limited time.

    Parameters
    ----------
    cache_dir, dsn
        As for `rb.populate_cache_resumable`.
    sources
        The sources whose addresses are checked; by default all of the package.
    offline
        Check no address.
    timeout_s
        How long to wait for an address.

    Returns
    -------
    list of Finding
        What was found, with the state `"ok"`, `"note"` or `"problem"`.

    Raises
    ------
    ValueError
        A source is not known.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from rangebar_polars.maintenance.doctor import examine
    >>> found = examine(cache_dir=mkdtemp(), offline=True)
    >>> [(one.area, one.state) for one in found if one.name == "cache folder"]
    [('folders', 'ok')]
    """
    names = list(SOURCES) if sources is None else list(sources)
    for name in names:
        if name not in SOURCES:
            raise ValueError(unknown_choice("sources", name, list(SOURCES)))
    # By themselves: two threads that import parts of one library wait for each other.
    found = run_checks([Check("extras", "extras", check_extras, IMPORTS_S)])
    local = partial(Check, limit_s=LOCAL_S + GRACE_S)
    arguments = {"cache_dir": cache_dir, "clickhouse_dsn": dsn}
    checks = [
        local("versions", "versions", check_versions),
        local("settings", "settings", partial(check_settings, arguments)),
        local("folders", "cache folder", partial(check_cache_folder, cache_dir)),
        local("folders", "configuration", check_config_folder),
        local("folders", "event log", check_event_log),
        local("tick store", "ticks", partial(check_tick_store, cache_dir, LOCAL_S)),
        local("bar cache", "bars", partial(check_bar_cache, dsn, cache_dir, timeout_s, LOCAL_S)),
        *([] if offline else _network_checks(names, timeout_s)),
    ]
    others = run_checks(checks)
    if offline:
        others.append(Finding(NETWORK, "sources", "note", "not checked"))
    return list(_once([*others[: _count(others)], *found, *others[_count(others) :]]))


def _count(found: Sequence[Finding]) -> int:
    return sum(one.area == "versions" for one in found)


def _network_checks(sources: Sequence[str], timeout_s: float) -> list[Check]:
    """Return a check of each address, which has its time and that of a slow name server."""
    limit_s = 4 * timeout_s + 5
    try:
        return [
            Check(NETWORK, place.name, partial(check_place, place, timeout_s), limit_s)
            for place in places(sources)
        ]
    except SettingError as error:
        finding = of_error(NETWORK, "sources", error)
        return [Check(NETWORK, "sources", lambda: [finding], limit_s)]


def _once(found: Sequence[Finding]) -> Iterator[Finding]:
    """Yield the findings, each problem of a setting once."""
    faults = {one.text for one in found if one.area == "settings" and one.state == "problem"}
    for one in found:
        if one.text not in faults or one.area == "settings":
            yield one
