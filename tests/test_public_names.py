"""Names that the package has without loading what they need, and that type checkers know."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import rangebar_polars as rb

SOURCE = Path(rb.__file__).read_text(encoding="utf-8")
TYPES = ["LiveBars", "PopulateReport", "PrecomputeProgress", "PrecomputeResult"]

LOADED = """
import json, sys
import rangebar_polars as rb
assert {names} <= set(dir(rb))
before = [name for name in sys.modules if name.startswith("rangebar_polars.populate")]
assert rb.PrecomputeResult.__name__ == "PrecomputeResult"
print(json.dumps([before, "rangebar_polars.populate.precompute" in sys.modules]))
"""


def late_imports() -> dict[str, tuple[str, str | None]]:
    """Names that only a type checker imports: their module, and what they are called there."""
    blocks = [node for node in ast.parse(SOURCE).body if isinstance(node, ast.If)]
    return {
        alias.name: (str(node.module), alias.asname)
        for block in blocks
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


@pytest.mark.parametrize("name", TYPES)
def test_what_a_population_returns_is_a_name_of_the_package(name: str) -> None:
    assert inspect.isclass(getattr(rb, name))
    assert name in dir(rb)
    assert name not in rb.__all__


def test_each_is_what_the_functions_give_and_take() -> None:
    assert inspect.signature(rb.populate_cache_resumable).return_annotation == "PopulateReport"
    assert inspect.signature(rb.precompute_range_bars).return_annotation == "PrecomputeResult"
    home = importlib.import_module("rangebar_polars.populate.precompute")
    assert rb.PrecomputeResult is home.PrecomputeResult
    assert rb.PrecomputeProgress is home.PrecomputeProgress


def test_a_late_name_is_the_same_for_a_type_checker() -> None:
    imports = late_imports()
    modules = {name: imports.pop(name) for name in rb._LATE_MODULES}
    assert modules == {name: ("rangebar_polars", name) for name in rb._LATE_MODULES}
    assert imports.keys() == rb._LATE.keys()
    for name, (module, alias) in imports.items():
        assert module == f"rangebar_polars.{rb._LATE[name]}"
        assert hasattr(importlib.import_module(module), name)
        # A checker takes a name as exported if it is in `__all__`, or imported as itself.
        assert alias == (None if name in rb.__all__ else name)


def test_the_estimators_are_a_module_of_the_package() -> None:
    home = importlib.import_module("rangebar_polars.estimators")
    assert rb.estimators is home
    own = {
        name
        for name, item in vars(home).items()
        if inspect.isfunction(item) and inspect.unwrap(item).__module__ == home.__name__
    }
    assert set(home.__all__) == {name for name in own if not name.startswith("_")}
    assert len(home.__all__) == 9


def test_late_names_load_nothing_before_they_are_asked_for(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LOADED.format(names=set(TYPES))]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [[], True]


# A wrong name, and what the message proposes.
PROPOSED = {
    "PrecomputeResults": "did you mean `rb.PrecomputeResult`?",
    "tickstorage": "did you mean `rb.TickStorage`?",
    "getrangebars": "did you mean `rb.get_range_bars`?",
    "tier1_symbols": "did you mean `rb.TIER1_SYMBOLS`?",
    "RangeBarProcessor": "RangeBarBuilder",
    "THRESHOLD_DECIMAL_MAX": "100_000",
    "exness": "import rangebar_polars.exness",
    "plugins": "import rangebar_polars.plugins",
}


@pytest.mark.parametrize("name", PROPOSED)
def test_a_name_that_is_none_is_an_attribute_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A module that another test has imported is an attribute.
    monkeypatch.delitem(vars(rb), name, raising=False)
    with pytest.raises(AttributeError, match=f"`{name}`") as caught:
        getattr(rb, name)
    assert PROPOSED[name] in str(caught.value)


@pytest.mark.parametrize("name", ["qqqqqq", "_private", "__wrapped__"])
def test_nothing_is_proposed_for_a_name_like_none(name: str) -> None:
    assert not hasattr(rb, name)
    with pytest.raises(AttributeError) as caught:
        getattr(rb, name)
    assert "hint" not in str(caught.value)


def test_completion_offers_public_names_alone() -> None:
    offered = {name for name in dir(rb) if not name.startswith("__")}
    assert offered == {*rb.__all__, *TYPES, "estimators", "exceptions", "rangebar"}
    assert {"TickStorage", "count_bars", "coverage", "get_cached_bars"} <= offered


@pytest.mark.parametrize("name", ["TickStorage", "count_bars", "coverage", "get_cached_bars"])
def test_the_store_and_the_cache_are_at_the_top(name: str) -> None:
    home = importlib.import_module(f"rangebar_polars.{rb._LATE[name]}")
    assert getattr(rb, name) is getattr(home, name)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("read_ticks", "write storage.get_ticks("),
        ("fetch_month", "write rb.fetch_ticks("),
        ("get_tick", "did you mean `get_ticks`?"),
        ("writeTicks", "did you mean `write_ticks`?"),
    ],
)
def test_a_method_that_the_store_does_not_have_names_another(
    name: str, hint: str, tmp_path: Path
) -> None:
    storage = rb.TickStorage(tmp_path)
    with pytest.raises(AttributeError) as caught:
        getattr(storage, name)
    assert str(caught.value).startswith(f"`TickStorage` has no attribute `{name}`\n\nhint: {hint}")
    assert not hasattr(storage, "_something")
    assert pickle.loads(pickle.dumps(storage)).root == storage.root
