"""Breaks copies of the package, one at a time, and tells which tests fail for each.

Scripts with tables of mutations use it; pytest collects none of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import rangebar_polars

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Mutation", "run_mutations"]

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Mutation:
    """Replacements in files of the package, and the tests that should fail then."""

    name: str
    changes: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


def spoiled(mutation: Mutation, folder: Path) -> None:
    """Copy the package, and apply the changes of a mutation."""
    package = Path(rangebar_polars.__file__).parent
    target = folder / package.name
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in mutation.changes:
        file = target / name
        text = file.read_text(encoding="utf-8")
        if text.count(old) != 1:
            raise SystemExit(f"{mutation.name}: {name} has the text {text.count(old)} times: {old}")
        file.write_text(text.replace(old, new), encoding="utf-8")


def failures(mutation: Mutation, folder: Path, tests: Path) -> list[str]:
    """Return the names of the tests that fail with the copy, up to three."""
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "--maxfail=3", "--tb=line"]
    command += ["-p", "no:cacheprovider", "--rootdir", ROOT, "-c", ROOT / "pyproject.toml"]
    command += [tests / test for test in mutation.tests]
    process = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    if process.returncode not in (0, 1):
        raise SystemExit(process.stdout + process.stderr)
    return re.findall(r"^(?:FAILED|ERROR) \S*?(\w+\.py::[^\s]+)", process.stdout, re.MULTILINE)


def run_mutations(mutations: Sequence[Mutation], tests: Path, words: Sequence[str]) -> int:
    """Run the mutations whose names contain one of the words; return 1 if a broken copy passes.

    Parameters
    ----------
    mutations
        The table.
    tests
        The folder that the names of tests begin in.
    words
        Without any, all run.
    """
    survived = 0
    for mutation in mutations:
        if words and not any(word in mutation.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            spoiled(mutation, Path(folder))
            found = failures(mutation, Path(folder), tests)
        survived += not found
        print(f"{mutation.name}:", flush=True)
        for test in found or ["NOTHING FAILS"]:
            print(f"    {test}", flush=True)
    return int(survived > 0)
