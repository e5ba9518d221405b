"""Size limits of the code: folders, files, functions, parameters, repeated runs of lines.

Tests, benchmarks and documentation are not measured.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYTHON_FILES = sorted((ROOT / "rangebar_polars").rglob("*.py"))
RUST_FILES = sorted((ROOT / "src").rglob("*.rs"))

FOLDER_FILES = 15
FILE_LINES = 500
FUNCTION_LINES = 60
FUNCTION_LINES_MEDIAN = 10
PARAMETERS = 10
REPEATED_LINES = 12
PUBLIC_NAMES = 37

# Entry points whose keywords the users' contract lists one by one.
CONTRACT_FUNCTIONS = {
    "bars_frame",
    "bars",
    "bar_id",
    "aggregate",
    "iter_bars",
    "get_range_bars",
    "get_n_range_bars",
    "scan_range_bars",
    "populate_cache_resumable",
    "precompute_range_bars",
    "get_cached_bars",
    "get_n_bars",
    "count_bars",
    "coverage",
    "kintsugi_pass",
    "kintsugi_daemon",
    "live_bars",
}


@dataclass(frozen=True)
class Function:
    """A function's place and size."""

    where: str
    name: str
    lines: int
    parameters: int


def without_tests(source: str) -> str:
    """Rust source up to its test module."""
    return source.split("#[cfg(test)]", maxsplit=1)[0]


def python_functions(path: Path) -> list[Function]:
    functions = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = node.end_lineno - node.lineno + 1
        if ast.get_docstring(node) is not None:
            lines -= node.body[0].end_lineno - node.body[0].lineno + 1
        arguments = node.args
        names = [a.arg for a in arguments.posonlyargs + arguments.args + arguments.kwonlyargs]
        parameters = len([n for n in names if n not in {"self", "cls"}])
        where = f"{path.relative_to(ROOT)}:{node.lineno}"
        functions.append(Function(where, node.name, lines, parameters))
    return functions


RUST_LITERALS = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.DOTALL
)
RUST_FUNCTION = re.compile(
    r"^[ \t]*(?:pub(?:\([^)]*\))? |const |unsafe |extern \"C\" )*fn (\w+)", re.MULTILINE
)


def blank(match: re.Match[str]) -> str:
    """As many line breaks as the literal or comment had."""
    return "\n" * match.group().count("\n")


def matching(text: str, start: int, opening: str, closing: str) -> int:
    """Position of the bracket that closes the first `opening` from `start`."""
    depth = 0
    for position in range(text.index(opening, start), len(text)):
        if text[position] == opening:
            depth += 1
        elif text[position] == closing:
            depth -= 1
            if depth == 0:
                return position
    message = f"no `{closing}` after position {start}"
    raise ValueError(message)


def rust_functions(source: str, name: str) -> list[Function]:
    text = RUST_LITERALS.sub(blank, without_tests(source))
    functions = []
    for match in RUST_FUNCTION.finditer(text):
        end_of_parameters = matching(text, match.end(), "(", ")")
        parameters = text[text.index("(", match.end()) + 1 : end_of_parameters]
        count = len([p for p in re.findall(r"(\w+)\s*:(?!:)", parameters) if p != "self"])
        body, semicolon = text.find("{", end_of_parameters), text.find(";", end_of_parameters)
        if body == -1 or -1 < semicolon < body:
            continue  # a declaration in a trait
        end = matching(text, body, "{", "}")
        line = text.count("\n", 0, match.start(1)) + 1
        lines = text.count("\n", match.start(1), end) + 1
        functions.append(Function(f"{name}:{line}", match.group(1), lines, count))
    return functions


def functions_of(language: str) -> list[Function]:
    if language == "python":
        return [f for path in PYTHON_FILES for f in python_functions(path)]
    return [
        function
        for path in RUST_FILES
        for function in rust_functions(
            path.read_text(encoding="utf-8"), str(path.relative_to(ROOT))
        )
    ]


LANGUAGES = pytest.mark.parametrize("language", ["python", "rust"])


def files_of(language: str) -> list[Path]:
    return PYTHON_FILES if language == "python" else RUST_FILES


def line_count(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


FOLDERS = sorted({path.parent for path in PYTHON_FILES + RUST_FILES})


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_folder_has_more_files_than_the_limit(folder):
    files = [path.name for path in PYTHON_FILES + RUST_FILES if path.parent == folder]
    assert len(files) <= FOLDER_FILES, files


@LANGUAGES
def test_no_file_is_longer_than_the_limit(language):
    long = {
        str(p.relative_to(ROOT)): line_count(p)
        for p in files_of(language)
        if line_count(p) > FILE_LINES
    }
    assert not long


@LANGUAGES
def test_no_function_is_longer_than_the_limit(language):
    assert not [f for f in functions_of(language) if f.lines > FUNCTION_LINES]


@LANGUAGES
def test_the_median_function_is_short(language):
    assert median(f.lines for f in functions_of(language)) <= FUNCTION_LINES_MEDIAN


@LANGUAGES
def test_no_function_takes_more_parameters_than_the_limit(language):
    crowded = [
        f
        for f in functions_of(language)
        if f.parameters > PARAMETERS and (language == "rust" or f.name not in CONTRACT_FUNCTIONS)
    ]
    assert not crowded


def python_lines(path: Path) -> list[tuple[int, str]]:
    """Numbered lines of code without docstrings, signatures, imports and `name=name,`.

    The entry points share their keywords and their documentation by contract.
    """
    source = path.read_text(encoding="utf-8")
    hidden: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            hidden.update(range(node.lineno, node.end_lineno + 1))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            hidden.update(range(node.lineno, node.body[0].lineno))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            hidden.update(range(node.lineno, node.end_lineno + 1))
    return [
        (number, line.strip())
        for number, line in enumerate(source.splitlines(), 1)
        if number not in hidden and not re.fullmatch(r"\s*(\w+)=\1,?", line)
    ]


def rust_lines(path: Path) -> list[tuple[int, str]]:
    source = without_tests(path.read_text(encoding="utf-8"))
    lines = enumerate((line.strip() for line in source.splitlines()), 1)
    return [(n, line) for n, line in lines if not line.startswith(("//", "use ", "#["))]


def test_no_run_of_lines_stands_in_two_places():
    places = defaultdict(list)
    for path in PYTHON_FILES + RUST_FILES:
        numbered = python_lines(path) if path.suffix == ".py" else rust_lines(path)
        # Lone brackets and short words repeat in any code.
        code = [(n, line) for n, line in numbered if re.search(r"\w\w", line)]
        for start in range(len(code) - REPEATED_LINES + 1):
            run = code[start : start + REPEATED_LINES]
            places[tuple(line for _, line in run)].append(f"{path.relative_to(ROOT)}:{run[0][0]}")
    assert not [where for where in places.values() if len(where) > 1]


def test_the_package_exports_few_names():
    rb = pytest.importorskip("rangebar_polars")
    assert len(rb.__all__) <= PUBLIC_NAMES


def test_a_rust_function_is_measured_by_its_braces():
    source = (
        "trait T {\n    fn c(&self);\n}\n"
        "pub fn a<'a, T>(x: &'a u8, y: fn(u8) -> u8) -> char {\n"
        '    // }\n    let s = "}\\"";\n    {\n    }\n    \'}\'\n}\n'
        "fn b(self) {}\n#[cfg(test)]\nmod tests {\n    fn d() {}\n}\n"
    )
    assert rust_functions(source, "x.rs") == [
        Function("x.rs:4", "a", 7, 2),
        Function("x.rs:11", "b", 1, 0),
    ]
