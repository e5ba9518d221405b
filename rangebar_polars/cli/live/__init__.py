"""The commands of live bars."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.cli.live.sidecar import add_sidecar
from rangebar_polars.cli.live.status import add_status

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the commands to the verbs of `rangebar`."""
    add_sidecar(verbs)
    add_status(verbs)
