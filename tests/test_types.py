"""Scripts of users pass a strict type check."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# Names that the package has without loading what they need.
LATE_NAMES = """
import rangebar_polars as rb

def seen(progress: rb.PrecomputeProgress) -> str:
    return progress.current_month

result: rb.PrecomputeResult = rb.precompute_range_bars(
    "BTCUSDT", "2024-01-01", "2024-01-02", progress_callback=seen
)
report: rb.PopulateReport = result.report
bars: int = rb.populate_cache_resumable("BTCUSDT", "2024-01-01").bars
"""
# A checker that takes the package for untyped, or a name for `Any`, finds none of these.
WRONG = """
import rangebar_polars as rb

bars: str = rb.populate_cache_resumable("BTCUSDT", "2024-01-01").bars
result: int = rb.precompute_range_bars("BTCUSDT", "2024-01-01", "2024-01-02")
rb.bars("price", threshold=0.25)
"""


def of_the_readme(root: Path) -> str:
    blocks = [b for b in BLOCK.findall((root / "README.md").read_text()) if ".rangebar." not in b]
    code = "\n".join(b for b in blocks if "backtesting" not in b and "wide" not in b)
    assert "rb.bars(" in code
    return code


def test_scripts_pass_a_strict_type_check_and_a_wrong_one_does_not(
    root: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """One run checks all of them. The types of the libraries, which take long, are cached."""
    pytest.importorskip("mypy")
    scripts = {"readme": of_the_readme(root), "late_names": LATE_NAMES, "wrong": WRONG}
    for name, code in scripts.items():
        (tmp_path / f"{name}.py").write_text(code)
    files = [f"{name}.py" for name in scripts]
    cache = pytestconfig.cache.mkdir("mypy")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(cache), *files],
        capture_output=True, text=True, timeout=1200, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert run.returncode == 1, run.stdout + run.stderr
    places = re.findall(r"^([a-z_]+\.py):(\d+): error: .*\[(.*)\]$", run.stdout, re.MULTILINE)
    assert places == [
        ("wrong.py", "4", "assignment"),
        ("wrong.py", "5", "assignment"),
        ("wrong.py", "6", "arg-type"),
    ], run.stdout
