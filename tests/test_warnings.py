"""Every warning of the package is a documented class of `rb.exceptions`."""

from __future__ import annotations

import ast
import importlib
import warnings
from pathlib import Path

import pytest

import rangebar_polars as rb
from rangebar_polars import exceptions
from rangebar_polars.exceptions import DamagedFileError, RangeBarWarning

ROOT = Path(__file__).resolve().parent.parent
CLASSES = [name for name in exceptions.__all__ if name.endswith("Warning")]
# Calls that pass on the class, or the warning, that their caller made.
PASSED_ON = {
    "rangebar_polars/_utils/warn.py": "category",
    "rangebar_polars/fetch/normalise.py": "kind",
    "rangebar_polars/readers/bars.py": "warning",
    "rangebar_polars/readers/cached.py": "warning",
    "rangebar_polars/readers/ticks.py": "warning",
}
# Modules in which the names stood before, and stay importable.
FORMER = {
    "_files.locks": "LockWaitWarning",
    "populate.precompute": "ValidationWarning",
    "populate.local_checkpoint": "LocalCheckpointWarning",
    "symbol_registry": "StartDateClampedWarning",
    "symbol_registry._gate": "SymbolNotRegisteredWarning",
    "fetch": "TradeFileWarning",
    "fetch.binance.rest_client": "ClockSkewWarning",
    "fetch.binance.archive": "UnverifiedFileWarning",
    "fetch.zipped": "DamagedFileError",
    "storage": "CoverageWarning",
    "storage.coverage": "CoverageWarning",
    "ingest.newest_day": "ClampWarning",
}


def syntax_trees() -> dict[str, ast.Module]:
    files = sorted((ROOT / "rangebar_polars").rglob("*.py"))
    return {str(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in files}


@pytest.mark.parametrize("name", CLASSES)
def test_one_filter_covers_all_warnings(name: str) -> None:
    kind = getattr(exceptions, name)
    assert issubclass(kind, RangeBarWarning)
    assert issubclass(kind, UserWarning)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", rb.exceptions.RangeBarWarning)
        warnings.warn(kind("text"), stacklevel=1)
    assert caught == []


@pytest.mark.parametrize("name", CLASSES)
def test_the_guide_to_errors_lists_each_warning(name: str) -> None:
    assert f"| `{name}`" in (ROOT / "docs/concepts/errors.md").read_text()


def test_warnings_are_defined_in_one_module() -> None:
    elsewhere = [
        f"{file}: {node.name}"
        for file, tree in syntax_trees().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any("Warning" in ast.unparse(base) for base in node.bases)
        and not file.endswith("_warnings.py")
    ]
    assert elsewhere == []


def test_every_class_of_the_module_of_warnings_is_public() -> None:
    tree = syntax_trees()["rangebar_polars/_warnings.py"]
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    assert defined == set(CLASSES)


def test_every_warning_is_issued_with_a_class_of_the_package() -> None:
    passed_on = set()
    for file, tree in syntax_trees().items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            if not ast.unparse(node.func).endswith(("warnings.warn", "warn_caller")):
                continue
            given = [*node.args, *(keyword.value for keyword in node.keywords)]
            named = {ast.unparse(value) for value in given}
            if PASSED_ON.get(file) in named:
                passed_on.add(file)
            else:
                assert named & set(CLASSES), f"{file}:{node.lineno}"
    assert passed_on == set(PASSED_ON)


@pytest.mark.parametrize("module", FORMER)
def test_former_places_still_have_the_names(module: str) -> None:
    name = FORMER[module]
    home = importlib.import_module(f"rangebar_polars.{module}")
    assert getattr(home, name) is getattr(exceptions, name)


def test_a_damaged_file_is_an_error_about_ticks() -> None:
    assert issubclass(DamagedFileError, rb.exceptions.TickDataError)
    assert "DamagedFileError" in exceptions.__all__
