"""Whether live bars use the bar cache, and the states that follow from it."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.clickhouse.connection.dsn import resolve
from rangebar_polars.exceptions import RangeBarWarning, with_hint
from rangebar_polars.live.helper.states import LocalStates, UnitStates

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rangebar_polars.live.helper.client import Helper
    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["CacheUse", "states_for"]

#: "use" makes the cache if there is none, "existing" does not, "off" never opens one.
CacheUse = Literal["use", "existing", "off"]


def states_for(
    use: CacheUse,
    helper: Helper,
    folder: Callable[[str], SymbolDir],
    *,
    cache_dir: Path | str | None,
    dsn: str | None,
) -> LocalStates:
    """Return the states of units if the cache is to be used, otherwise those of local files.

    Parameters
    ----------
    use
        Whether it is to be used.
    helper
        Opens it.
    folder
        Returns the folder of a symbol in the tick store.
    cache_dir, dsn
        The cache.

    Raises
    ------
    SettingError
        The address of the cache is not valid.
    """
    if use == "off" or (use == "existing" and not _exists(dsn, cache_dir)):
        return LocalStates(cache_dir)
    missing = next((name for name in _libraries(dsn, cache_dir) if find_spec(name) is None), None)
    if missing is None:
        return UnitStates(helper, cache_dir, folder)
    if use == "use":
        text = f"bars are not stored in the cache: `{missing}` is not installed"
        hint = "pip install 'rangebar-polars[cache]', or cache=False"
        warn_caller(with_hint(text, hint), RangeBarWarning)
    return LocalStates(cache_dir)


def _exists(dsn: str | None, cache_dir: Path | str | None) -> bool:
    folder = resolve(dsn, cache_dir).folder
    return folder is None or folder.is_dir()


def _libraries(dsn: str | None, cache_dir: Path | str | None) -> tuple[str, ...]:
    is_embedded = resolve(dsn, cache_dir).is_embedded
    return ("clickhouse_connect", *["chdb"] * is_embedded)
