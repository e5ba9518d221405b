"""The sidecar: a process that streams symbols, stores their trades and delivers their bars."""

from __future__ import annotations

from rangebar_polars.sidecar.config import SidecarConfig
from rangebar_polars.sidecar.run import SidecarReport, run_sidecar, run_sidecar_async

__all__ = ["SidecarConfig", "SidecarReport", "run_sidecar", "run_sidecar_async"]
