"""Fixtures of live tests."""

from __future__ import annotations

import pytest

from live.sidecars import Sidecars


@pytest.fixture(scope="session")
def forked_sidecars(tmp_path_factory):
    with Sidecars(tmp_path_factory.mktemp("sidecars")) as found:
        yield found


@pytest.fixture
def sidecars(forked_sidecars):
    """Starts sidecars. Those that still run at the end of a test are killed."""
    yield forked_sidecars
    forked_sidecars.end_all()
