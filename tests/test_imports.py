"""What importing the package loads and does, and which modules may import which."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Runs in a fresh interpreter; a name in `sys.modules` with the value None was never imported.
NEW_MODULES = """
import json, sys
import polars
before = set(sys.modules)
import rangebar_polars
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""

# Polars is imported first: the events after that are ours.
EFFECTS = """
import json, os, sys
import polars
seen = []
WATCHED = ("socket.", "subprocess.", "os.mkdir", "os.remove", "os.rename", "os.system", "os.putenv",
           "os.unsetenv", "os.exec", "os.fork", "os.posix_spawn", "shutil.", "tempfile.")
def watch(event, arguments):
    writing = event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    if writing or event.startswith(WATCHED):
        seen.append([event, repr(arguments)])
environment = dict(os.environ)
sys.addaudithook(watch)
import logging
handlers = list(logging.getLogger().handlers)
import warnings
filters = list(warnings.filters)
import rangebar_polars
assert dict(os.environ) == environment
assert logging.getLogger().handlers == handlers
assert warnings.filters == filters
print(json.dumps(seen))
"""

# Calls of functions, in Python and in C, while the package is imported. They take the same time on
# one machine, and their number is the same on all.
IMPORT_CALLS = """
import sys
import polars
calls = 0
def count(frame, event, argument):
    global calls
    calls += event in ("call", "c_call")
sys.setprofile(count)
import rangebar_polars
sys.setprofile(None)
print(calls)
"""
MOST_CALLS = 20_000  # some 20 ms; importing Polars takes 200,000


def run(code: str, tmp_path: Path) -> str:
    """Output of `code` in a fresh interpreter whose working directory is empty."""
    command = [sys.executable, "-W", "error", "-B", "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def optional_modules() -> set[str]:
    """Top-level modules of everything the extras and the development tools install."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [*project["project"]["optional-dependencies"].values()]
    named += [*project["dependency-groups"].values()]
    requirements = [r for group in named for r in group if isinstance(r, str)]
    names = {re.split(r"[\[<>=!~ ;]", r, maxsplit=1)[0].replace("-", "_") for r in requirements}
    return (names | {"sklearn", "vl_convert"}) - {"rangebar_polars"}


def test_import_loads_no_optional_library(tmp_path):
    new = set(json.loads(run(NEW_MODULES, tmp_path)))
    assert "rangebar_polars" in new
    assert new & optional_modules() == set()


def test_import_loads_nothing_but_the_standard_library_beside_polars(tmp_path):
    new = set(json.loads(run(NEW_MODULES, tmp_path)))
    assert new - set(sys.stdlib_module_names) <= {"rangebar_polars", "polars"}


def test_import_has_no_side_effect(tmp_path):
    assert json.loads(run(EFFECTS, tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_import_costs_little_beyond_polars(tmp_path):
    assert 0 < int(run(IMPORT_CALLS, tmp_path)) <= MOST_CALLS


def test_python_layers_are_kept():
    pytest.importorskip("importlinter")
    script = Path(sys.executable).parent / "lint-imports"
    command = [str(script), "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_import_no_name_from_the_package_itself():
    modules = {path.stem for path in (ROOT / "rangebar_polars").glob("*")} | {"__version__"}
    for path in sorted((ROOT / "rangebar_polars").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "rangebar_polars":
                names = {alias.name for alias in node.names}
                assert names <= modules, f"{path.name}:{node.lineno}"


# `core` is below `features`, both below `frames`, and the two entry points are independent.
RUST_LAYERS = {
    "core": r"polars|pyo3|crate::(features|frames|plugin|python)",
    "features": r"polars|pyo3|crate::(frames|plugin|python)",
    "frames": r"pyo3|crate::(plugin|python)",
    "plugin": r"crate::python",
    "python": r"crate::plugin",
}


@pytest.mark.parametrize("layer", RUST_LAYERS)
def test_rust_layers_are_kept(layer):
    files = sorted((ROOT / "src" / layer).rglob("*.rs"))
    assert files
    upward = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(rf"\b({RUST_LAYERS[layer]})\b", line.partition("//")[0])
    ]
    assert not upward


def test_environment_is_read_in_config_alone():
    readers = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "rangebar_polars").rglob("*.py"))
        if re.search(
            r"os\.(environ|getenv)|from os import .*(environ|getenv)",
            path.read_text(encoding="utf-8"),
        )
    ]
    assert readers in ([], ["rangebar_polars/config.py"])


def test_what_other_libraries_log_is_left_to_handlers_that_somebody_set_up(tmp_path: Path) -> None:
    code = """
import logging, sys
from rangebar_polars._utils.optional import import_extra
import_extra("stamina", "fetch")
logging.getLogger("stamina").warning("not printed")
logging.basicConfig(stream=sys.stdout, format="%(message)s")
logging.getLogger("stamina").warning("for the handler")
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("for the handler\n", "")


def test_an_import_error_inside_an_installed_library_is_shown(tmp_path: Path) -> None:
    (tmp_path / "halflib").mkdir()
    (tmp_path / "halflib" / "__init__.py").write_text("import no_such_part_of_it\n")
    (tmp_path / "zonelib.py").write_text(
        "try:\n    raise RuntimeError('Cannot load time zone Nowhere')\n"
        "except RuntimeError:\n    raise ImportError('engine not found')\n"
    )
    code = """
import os
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.exceptions import BrokenExtraError, MissingExtraError
os.environ["TZ"] = "Nowhere"
for name in ("halflib", "zonelib", "missinglib", "missinglib.part"):
    try:
        import_extra(name, "cache")
    except (BrokenExtraError, MissingExtraError) as error:
        print(type(error).__name__, str(error).replace("\\n", " "))
"""
    command = [sys.executable, "-c", code]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    half, zone, *missing = run.stdout.splitlines()
    assert half.startswith("BrokenExtraError `halflib` is installed")
    assert "no_such_part_of_it" in half
    assert "engine not found; Cannot load time zone Nowhere" in zone
    assert "hint: the variable `TZ` is `Nowhere`" in zone
    assert all(line.startswith("MissingExtraError `missinglib` is not") for line in missing)


def test_the_embedded_cache_starts_in_any_time_zone(tmp_path: Path) -> None:
    pytest.importorskip("chdb")
    code = """
import os, sys
import rangebar_polars as rb
from rangebar_polars.clickhouse.open import open_cache
with open_cache(cache_dir=sys.argv[1], write=True) as cache:
    print(cache.query("SELECT timezone()").item(), os.environ["TZ"])
"""
    for zone in ("JST-9", "Nowhere/City"):
        run = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "cache"],
            env={**os.environ, "TZ": zone}, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert run.stdout.split() == ["UTC", zone], run.stderr
