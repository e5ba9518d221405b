"""A request for bars, with its arguments judged."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rangebar_polars._utils.checks import require_bool
from rangebar_polars.catalogue import MICROSTRUCTURE_COLUMNS, column_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from rangebar_polars.bar_series.query import SeriesQuery

__all__ = ["ReadOptions", "ReadRequest", "groups_of", "in_order", "microstructure_of"]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """Where bars and ticks are, and what may be done to have them."""

    use_cache: bool = True
    fetch: bool = True
    cache_dir: Path | str | None = None
    dsn: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_bool(use_cache=self.use_cache, fetch_if_missing=self.fetch)


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """What a read asks for."""

    asked: SeriesQuery
    access: ReadOptions
    #: Of a bar, by the names and in the order of the catalogue.
    columns: tuple[str, ...]
    #: Whether bars that a reset ended are given too.
    orphans: bool = False
    #: Whether the bar that is forming at the end is given too.
    incomplete: bool = False
    #: Whether the read ends with the newest tick there is.
    is_open: bool = False

    def __post_init__(self) -> None:
        require_bool(include_orphaned_bars=self.orphans, include_incomplete=self.incomplete)


def microstructure_of(include_microstructure: bool) -> tuple[str, ...]:  # noqa: FBT001
    """The columns beyond the core that this flag of a door stands for."""
    require_bool(include_microstructure=include_microstructure)
    return MICROSTRUCTURE_COLUMNS if include_microstructure else ()


def groups_of(names: Iterable[str]) -> set[str]:
    """Groups of features that a series must have to give these columns."""
    wanted = set(names)
    groups = column_names().groups
    return {"core"} | {group for group, members in groups.items() if wanted & set(members)}


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """The columns in the order of the catalogue."""
    wanted, (core, optional, _) = set(names), column_names()
    return tuple(name for name in (*core, *optional) if name in wanted)
