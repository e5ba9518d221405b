"""Breaks copies of the kernel of features, one at a time, and prints which tests fail for each.

    python tests/core/mutations.py [WORD ...]

Not collected by pytest: run it by hand; it takes some minutes. It exits with 1 if a broken copy
passes. With words, it runs only the mutations whose names contain one of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Mutation(NamedTuple):
    """A replacement in a file below `src`, which must stand there once."""

    name: str
    file: str
    old: str
    new: str


MUTATIONS = [
    Mutation(
        "a window is one record too long",
        "core/sample/key.rs",
        "Window::Records(records) => position.saturating_sub(records),\n            Window::Bars(_) => state",
        "Window::Records(records) => position.saturating_sub(records + 1).max(self.ring.first()),\n"
        "            Window::Bars(_) => state",
    ),
    Mutation(
        "a window reaches across a reset",
        "core/sample/key.rs",
        "position.saturating_sub(LONGEST_WINDOW)).max(floor);",
        "position.saturating_sub(LONGEST_WINDOW)).max(self.ring.first() + 0 * floor);",
    ),
    Mutation(
        "moments are those of a sample",
        "features/shared/ratio.rs",
        ".to_f64().sqrt()\n}",
        ".to_f64().sqrt() * (count as f64 / (count - 1) as f64).sqrt()\n}",
    ),
    Mutation(
        "nearly equal sizes are taken for equal",
        "core/arithmetic/powers.rs",
        "(variance > 0.0).then(|| third",
        "(variance > 1e3).then(|| third",
    ),
    Mutation(
        "gains are added in another order",
        "features/intrabar/epochs.rs",
        "self.total = added(self.total, self.gain, self.quiet);",
        "self.total += self.gain * self.quiet as f64;",
    ),
    Mutation(
        "an order ends where a chunk ends",
        "core/sample/orders.rs",
        "if !self.is_open {",
        "if !self.is_open || self.last.price > 0 {",
    ),
]


def failures(mutation: Mutation, folder: Path) -> list[str]:
    """Return the tests that fail in a copy with a mutation."""
    for name in ("src", "tests/core", "tests/golden", "benches"):
        shutil.copytree(ROOT / name, folder / name)
    for name in ("Cargo.toml", "Cargo.lock"):
        shutil.copy(ROOT / name, folder / name)
    path = folder / "src" / mutation.file
    text = path.read_text()
    if text.count(mutation.old) != 1:
        raise SystemExit(f"`{mutation.file}` no longer has the text of: {mutation.name}")
    path.write_text(text.replace(mutation.old, mutation.new))
    target = Path(tempfile.gettempdir()) / "rangebar-mutations"
    run = subprocess.run(
        ["cargo", "test", "--locked", "--no-default-features", "--no-fail-fast"],
        cwd=folder, env=os.environ | {"CARGO_TARGET_DIR": str(target)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "test result:" not in run.stdout:
        raise SystemExit(f"{mutation.name}: does not compile\n{run.stderr[-2000:]}")
    return re.findall(r"^test (\S+) \.\.\. FAILED", run.stdout, re.MULTILINE)


def main(words: list[str]) -> int:
    """Run the mutations; 1 if one of them passes."""
    survived = 0
    for mutation in MUTATIONS:
        if words and not any(word in mutation.name for word in words):
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = failures(mutation, Path(folder))
        survived += not found
        print(f"{mutation.name}:", flush=True)
        for test in found or ["NOTHING FAILS"]:
            print(f"    {test}", flush=True)
    return int(survived > 0)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
