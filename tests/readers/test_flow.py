"""A read runs from the public function downwards: how often it returns upwards, where it passes.

The order is that of the import contract, from the command line down to the texts, and within
`readers` that of `FILES`. A call *returns upwards* if it enters a module that stands higher than
the module it comes from; calls of other libraries between the two do not count.

A read *visits* each module of `readers` that it enters, and of every other package the modules
that it enters from outside of the package: its own modules are the package's affair. The helpers
that any package may use, from `interop` and `config` downwards, are not counted.
"""

from __future__ import annotations

import ast
import sys
import tomllib
from pathlib import Path

import pytest

import rangebar_polars
from rangebar_polars.readers.bars import get_range_bars
from readers.shared import SYMBOL, january

ROOT = Path(__file__).resolve().parent.parent.parent
READERS = Path(rangebar_polars.__file__).parent / "readers"

#: The modules of `readers`, the highest first; those of one line do not know each other.
FILES = [
    ["bars", "cached", "ticks"],
    ["newest", "lazy", "cached_plan"],
    ["execute"],
    ["missing_ticks"],
    ["plugins"],
    ["plan"],
    ["coverage"],
    ["features"],
    ["hints"],
    ["request"],
]
MOST_RETURNS = 8
MOST_VISITS = 25

pytestmark = pytest.mark.usefixtures("shared_cache")


def package_levels() -> dict[str, int]:
    """The level of each package, 0 for the highest."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = project["tool"]["importlinter"]["contracts"]
    (contract,) = [one for one in contracts if one.get("containers") == ["rangebar_polars"]]
    return {
        name.strip(): level
        for level, line in enumerate(contract["layers"])
        for name in line.replace(":", "|").split("|")
    }


LEVELS = package_levels()
FILE_LEVELS = {name: level for level, names in enumerate(FILES) for name in names}


def position(module: str) -> tuple[int, int]:
    """Where a module stands; the higher one has the smaller position."""
    _, package, *rest = module.split(".")
    return LEVELS[package], FILE_LEVELS[rest[0]] if package == "readers" and rest else 0


def package_of(module: str) -> str:
    return module.split(".")[1]


class Flow:
    """The calls of a function from module to module of the package."""

    def __init__(self, call):
        self.calls = set()
        self.returns = []
        sys.setprofile(self._note)
        try:
            call()
        finally:
            sys.setprofile(None)

    def _note(self, frame, event, _argument):
        module = self._module_of(frame)
        if event != "call" or module is None:
            return
        caller, below = None, frame.f_back
        while below is not None and caller is None:
            caller, below = self._module_of(below), below.f_back
        self.calls.add((caller, module))
        if caller is not None and position(module) < position(caller):
            self.returns.append((caller, module, frame.f_code.co_name))

    @staticmethod
    def _module_of(frame):
        name = frame.f_globals.get("__name__", "")
        return name if name.startswith("rangebar_polars.") else None

    def visited(self) -> set[str]:
        return {
            module
            for caller, module in self.calls
            if position(module) < (LEVELS["interop"], 0)
            and (
                package_of(module) == "readers"
                or caller is None
                or package_of(caller) != package_of(module)
            )
        }


def test_no_module_of_readers_imports_a_higher_one():
    files = sorted(path.stem for path in READERS.glob("*.py") if path.stem != "__init__")
    assert files == sorted(FILE_LEVELS)
    for name in files:
        for node in ast.walk(ast.parse((READERS / f"{name}.py").read_text(encoding="utf-8"))):
            module = getattr(node, "module", None) or ""
            if module.startswith("rangebar_polars.readers."):
                imported = module.rpartition(".")[2]
                assert FILE_LEVELS[name] < FILE_LEVELS[imported], (name, imported)


@pytest.mark.parametrize(
    ("span", "source"),
    [
        ((january(2), january(30)), "cache"),
        ((january(37), january(48, 7)), "cache"),
        ((january(37), january(58, 7)), "cache+ticks"),
    ],
)
def test_a_read_runs_downwards(shared, span, source):
    def read():
        return get_range_bars(SYMBOL, *span, ouroboros="month", **shared.place)

    # The first read loads modules.
    assert read().attrs["rangebar"][-1]["source"] == source
    flow = Flow(read)
    assert len(flow.returns) <= MOST_RETURNS, flow.returns
    visited = sorted(flow.visited())
    assert len(visited) <= MOST_VISITS, visited
    assert "rangebar_polars.clickhouse.query.bars" in visited
