"""The commands `rangebar doctor` and `rangebar config`: is this machine set up, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars.cli.health.config import add_config
from rangebar_polars.cli.health.doctor import add_doctor

if TYPE_CHECKING:
    from rangebar_polars.cli._output import Verbs

__all__ = ["add_parser"]


def add_parser(verbs: Verbs) -> None:
    """Add the commands to the verbs of `rangebar`."""
    add_doctor(verbs)
    add_config(verbs)
