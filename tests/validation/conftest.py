"""The libraries of tier 2, loaded by the processes that run its tests."""

from __future__ import annotations

import pytest


@pytest.fixture(scope="session")
def libraries() -> None:
    """Skip without the libraries. An import when tests are collected would cost every process."""
    pytest.importorskip("scipy")
    pytest.importorskip("sklearn")
    pytest.importorskip("statsmodels")
