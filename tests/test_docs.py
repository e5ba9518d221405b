"""What the documents show is run as it stands there."""

from __future__ import annotations

import doctest
import importlib
import inspect
import operator
import os
import pkgutil
import pydoc
import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from exchange import Exchange, Tape
from rangebar_polars.live.health.metrics import METRICS, PREFIX
from rangebar_polars.live.health.stored import NOT_RESPONDING, UNKNOWN, WRITER_GONE
from rangebar_polars.live.protocol.states import Failure, Reason, State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import ModuleType

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
STREAMS = re.compile(r"\b(live_bars|run_sidecar|run_sidecar_async)\(")
# Time at the exchange passes so much faster, and a bar of 250 dbps takes some four trades.
SPEED, TRADES_PER_MINUTE, VOLATILITY = 60, 120, 0.2
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(rb.__path__, "rangebar_polars.")
    if not module.name.endswith(("__main__", "_internal"))
)


def documents(root: Path) -> list[Path]:
    return [root / "README.md", *sorted((root / "docs").rglob("*.md"))]


def script_of(path: Path) -> str:
    """Join the Python blocks of a document, which build on one another."""
    return "\n".join(BLOCK.findall(path.read_text()))


@contextmanager
def market(folder: Path) -> Iterator[dict[str, str]]:
    """Run an exchange around now whose time passes; the variables that a script needs for it."""
    hours, now = timedelta(hours=3), datetime.now(UTC)
    tapes = [
        Tape.around(
            now, hours, hours, symbol=symbol, per_minute=TRADES_PER_MINUTE, volatility=VOLATILITY
        )
        for symbol in ("BTCUSDT", "ETHUSDT")
    ]
    with Exchange(*tapes) as exchange, exchange.live(SPEED):
        own = {"RANGEBAR_CACHE_DIR": str(folder / "cache"), "RANGEBAR_HEALTH_PORT": "0"}
        yield exchange.environment | own


def run_script(
    code: str, folder: Path, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    script = folder / "script.py"
    script.write_text(code)
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True, text=True, timeout=1200, check=False, cwd=folder,
        env=os.environ | (environment or {}),
    )  # fmt: skip


def test_the_readme_shows_code(root: Path) -> None:
    assert "rangebar" in script_of(root / "README.md")


def test_blocks_of_the_readme_run(root: Path, tmp_path: Path) -> None:
    run = run_script(script_of(root / "README.md"), tmp_path)
    assert run.returncode == 0, run.stderr[-3000:]


def test_blocks_of_the_other_documents_run(root: Path, tmp_path: Path) -> None:
    for path in documents(root)[1:]:
        code = script_of(path)
        if code and not STREAMS.search(code):
            run = run_script(code, tmp_path)
            assert run.returncode == 0, f"{path}\n{run.stderr[-3000:]}"


def test_blocks_of_documents_that_stream_run_at_an_exchange(root: Path, tmp_path: Path) -> None:
    codes = {path: code for path in documents(root) if STREAMS.search(code := script_of(path))}
    assert len(codes) >= 1
    with market(tmp_path) as environment:
        for path, code in codes.items():
            run = run_script(code, tmp_path, environment)
            assert run.returncode == 0, f"{path}\n{run.stderr[-3000:]}"


def test_the_runbook_has_every_state_reason_and_metric(root: Path) -> None:
    page = (root / "docs" / "guides" / "operations.md").read_text()
    for value in (*State, *Reason, *Failure, WRITER_GONE, NOT_RESPONDING, UNKNOWN):
        assert f"**`{value}`**" in page, value
    known = {PREFIX + one.name + ("_total" if one.is_counter else "") for one in METRICS}
    used = set(re.findall(r"rangebar_live_\w+", page))
    assert len(used) >= 5
    assert used <= known


def test_links_within_the_repository_lead_somewhere(root: Path) -> None:
    for path in documents(root):
        for target in LINK.findall(path.read_text()):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_readme_is_short_and_starts_with_what_a_bar_is(root: Path) -> None:
    lines = (root / "README.md").read_text().splitlines()
    assert len(lines) <= 150
    start = "\n".join(lines[:25]).lower()
    assert "range bar" in start
    assert "make demo" in start
    assert "make test" in start
    assert "![" in start


class Finder(doctest.DocTestFinder):
    """A finder that also collects functions whose decorator stands in another module."""

    def _from_module(self, module, thing):  # type: ignore[no-untyped-def]
        return super()._from_module(module, inspect.unwrap(thing))


def examples_of(module: ModuleType) -> list[doctest.DocTest]:
    return [found for found in Finder().find(module, module.__name__) if found.examples]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_the_docstrings_run(name: str) -> None:
    flags = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
    runner = doctest.DocTestRunner(optionflags=flags)
    for example in examples_of(importlib.import_module(name)):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0


def test_examples_of_decorated_functions_are_among_them() -> None:
    run = {
        example.name for name in MODULES for example in examples_of(importlib.import_module(name))
    }
    for name in rb.__all__:
        thing = getattr(rb, name)
        if inspect.isroutine(thing):
            original = inspect.unwrap(thing)
            assert f"{original.__module__}.{original.__qualname__}" in run, name
    methods = {"bars": "bars_frame", "aggregate": "aggregate_frame"}
    for kind in ("DataFrameBars", "LazyFrameBars"):
        for method in (*methods, "plot", "to_backtesting"):
            assert f"rangebar_polars.compute.namespace.{kind}.{method}" in run
    for method in ("bars", "bar_id", "aggregate"):
        assert f"rangebar_polars.compute.namespace.ExprBars.{method}" in run


HELPED = {
    "df.rangebar.bars": ("threshold:", "*, group_by:", "reset:", "columns:"),
    "df.rangebar.aggregate": ("bar_id:", "*, features:", "columns:"),
    "df.rangebar.plot": ("*, max_bars:", "width:", "title:"),
    "df.rangebar.to_backtesting": ("()",),
    "lf.rangebar.bars": ("threshold:", "*, group_by:"),
    "lf.rangebar.plot": ("*, max_bars:",),
    "price.rangebar.bars": ("threshold:", "*, timestamp:", "quantity:"),
    "price.rangebar.bar_id": ("threshold:", "*, timestamp:"),
    "price.rangebar.aggregate": ("bar_id:", "*, timestamp:"),
}


@pytest.mark.parametrize("method", HELPED)
def test_help_of_a_method_has_signature_text_and_example(method: str) -> None:
    frame = rb.sample_ticks().head(3)
    names = {"df": frame, "lf": frame.lazy(), "price": pl.col("price")}
    name, _, path = method.partition(".")
    text = pydoc.render_doc(operator.attrgetter(path)(names[name]), renderer=pydoc.plaintext)
    signature = text.split("\n", 3)[2]
    assert all(part in signature for part in HELPED[method]), signature
    assert "**" not in signature
    for section in ("Examples\n", "Returns\n", ">>> import rangebar_polars as rb"):
        assert section in text, section
    assert "Delegate" not in text


def test_every_public_name_has_an_example() -> None:
    bare = []
    for name in rb.__all__:
        thing = getattr(rb, name)
        if callable(thing) and ">>>" not in (thing.__doc__ or ""):
            bare.append(name)
    assert bare == []
