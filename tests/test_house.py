"""Rules of the repository as a whole."""

from __future__ import annotations

import ast
import re
import runpy
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

TOP_LEVEL = {
    "Cargo.toml",
    "pyproject.toml",
    "Makefile",
    "src",
    "rangebar_polars",
    "tests",
    "benches",
    "docs",
    "symbols.toml",
    "README.md",
    "LICENSE",
    "Cargo.lock",
    "rust-toolchain.toml",
}
PICTURE_BYTES = 200_000

# Folders of one machine. In pieces, so that this file does not contain what it looks for.
MACHINE_PATHS = "|".join(
    [rf"(?<![\w./~-])/{'wo'}rk/", rf"(?<![\w./~-])/{'ro'}ot/", rf"/{'ho'}me/\w", rf"/{'Us'}ers/\w"]
)


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def repository_files() -> list[Path]:
    """Files that git tracks or would track."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return [ROOT / name for name in sorted(set(listed.split("\0"))) if (ROOT / name).is_file()]


def test_the_top_level_has_only_the_agreed_names():
    names = {path.relative_to(ROOT).parts[0] for path in repository_files()}
    assert {n for n in names if not n.startswith(".")} <= TOP_LEVEL


def test_the_lock_file_and_the_toolchain_are_in_the_repository():
    names = {str(path.relative_to(ROOT)) for path in repository_files()}
    assert {"Cargo.lock", "rust-toolchain.toml", ".ci/run"} <= names


def test_no_compiled_or_generated_file_is_in_the_repository():
    suffixes = {path.suffix for path in repository_files()}
    assert suffixes.isdisjoint({".so", ".pyd", ".pyc", ".whl"})


def test_no_file_names_a_folder_of_one_machine():
    found = []
    for path in repository_files():
        if path.suffix in {".png", ".parquet", ".zip", ".lock"}:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if re.search(MACHINE_PATHS, line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:80]}")
    assert not found


def test_the_picture_is_small():
    assert (ROOT / "docs" / "bars.png").stat().st_size <= PICTURE_BYTES


@pytest.mark.parametrize("path", sorted((ROOT / "src").rglob("*.rs")), ids=lambda p: p.name)
def test_rust_does_not_panic_on_purpose(path):
    source = path.read_text(encoding="utf-8").split("#[cfg(test)]", maxsplit=1)[0]
    panicking = r"\.unwrap\(\)|\.expect\(|\b(panic|unreachable|todo|unimplemented)!\("
    lines = [
        f"{number}: {line.strip()}"
        for number, line in enumerate(source.splitlines(), 1)
        if re.search(panicking, line.partition("//")[0])
    ]
    assert not lines


@pytest.mark.parametrize(
    "path", sorted((ROOT / "rangebar_polars").rglob("*.py")), ids=lambda p: p.name
)
def test_no_broad_except_swallows_an_error(path):
    broad = {None, "Exception", "BaseException"}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ExceptHandler):
            kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
            names = {getattr(kind, "id", kind and "?") for kind in kinds}
            raised = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
            assert raised or not names & broad, f"{path.name}:{node.lineno}"


def test_the_extra_all_is_all_extras():
    extras = project()["project"]["optional-dependencies"]
    everything = extras.pop("all")
    assert sorted(everything) == sorted({name for group in extras.values() for name in group})


def test_an_extra_named_in_the_package_exists():
    extras = set(project()["project"]["optional-dependencies"])
    for path in (ROOT / "rangebar_polars").rglob("*.py"):
        named = re.findall(r"rangebar-polars\[(\w+)\]", path.read_text(encoding="utf-8"))
        assert set(named) <= extras, path.name


def test_the_version_stands_in_one_place():
    rb = pytest.importorskip("rangebar_polars")
    crate = tomllib.loads((ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    assert "version" in project()["project"]["dynamic"]
    assert rb.__version__ == crate["package"]["version"]


def test_the_column_reference_is_the_catalogue():
    pytest.importorskip("rangebar_polars")
    generate = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    assert generate["PAGE"].read_text(encoding="utf-8") == generate["page"]()


def test_the_reference_of_metrics_is_what_a_sidecar_counts():
    pytest.importorskip("rangebar_polars")
    generate = runpy.run_path(str(ROOT / "docs" / "reference" / "generate.py"))
    assert generate["METRICS_PAGE"].read_text(encoding="utf-8") == generate["metrics_page"]()
