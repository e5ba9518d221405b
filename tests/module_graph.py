"""Who uses whom among the modules of the package and of the crate, and the circles in it.

An arrow goes from a module to the module that defines what it uses:

- `from package import name` and `use parent::Name` are arrows to the module that defines the name.
  A name that a package or parent module only re-exports is followed to its origin, so re-exporting
  children is not a circle. It becomes one when a child uses something that the parent itself defines.
- Loading alone is not an arrow: a Python import also runs the packages above, and Rust declares a
  child with `mod child;`. Neither uses anything.
- Imports inside functions count like all others. Imports under `if TYPE_CHECKING` form a graph of their
  own together with the others, because a type checker sees both.
- In Rust, paths in expressions count like `use`, code for tests does not, and an inline module belongs
  to its file. A method that a module calls on its own type, but another module implements, is an arrow
  to that other module.
"""

from __future__ import annotations

import ast
import re
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

Graph = dict[str, set[str]]


def circles(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return one shortest path for each group of modules that all reach each other.

    A path begins and ends with the same module.
    """
    reach = {module: _reachable(graph, module) for module in graph}
    found, seen = [], set()
    for module in sorted(graph):
        if module in reach[module] and module not in seen:
            seen |= {other for other in reach[module] if module in reach.get(other, ())}
            found.append(_path_back(graph, module))
    return found


def _reachable(graph: Mapping[str, Iterable[str]], start: str) -> set[str]:
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        for module in graph.get(waiting.pop(), ()):
            if module not in reached:
                reached.add(module)
                waiting.append(module)
    return reached


def _path_back(graph: Mapping[str, Iterable[str]], start: str) -> list[str]:
    waiting = deque([[start]])
    seen = set()
    while waiting:
        path = waiting.popleft()
        for module in sorted(graph.get(path[-1], ())):
            if module == start:
                return [*path, start]
            if module not in seen:
                seen.add(module)
                waiting.append([*path, module])
    raise AssertionError(start)


# Python.


@dataclass(frozen=True)
class Import:
    """A name taken from a module, or a module itself where `name` is empty."""

    module: str
    name: str
    alias: str
    is_for_types: bool


def python_graphs(sources: Mapping[str, str]) -> tuple[Graph, Graph]:
    """Return what modules use at run time, and what they use when imports for types are added.

    `sources` maps dotted module names to source texts. A package has the name of its folder.
    """
    imports = {module: list(_imports(ast.parse(text))) for module, text in sources.items()}
    runtime: Graph = {module: set() for module in sources}
    with_types: Graph = {module: set() for module in sources}
    for module, found in imports.items():
        for imported in found:
            target = _origin(imports, imported.module, imported.name)
            if target is None or target == module:
                continue
            with_types[module].add(target)
            if not imported.is_for_types:
                runtime[module].add(target)
    return runtime, with_types


def _origin(imports: Mapping[str, list[Import]], module: str, name: str) -> str | None:
    """Return the module that defines a name, following re-exports."""
    for _ in range(len(imports)):
        if f"{module}.{name}" in imports:
            return f"{module}.{name}"
        if module not in imports:
            return None
        again = next((i for i in imports[module] if i.alias == name and i.name), None)
        if again is None:
            return module
        module, name = again.module, again.name
    return module


def _imports(tree: ast.AST, is_for_types: bool = False) -> Iterator[Import]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, "", alias.asname or "", is_for_types)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            for alias in node.names:
                yield Import(
                    node.module or "", alias.name, alias.asname or alias.name, is_for_types
                )
        elif isinstance(node, ast.Call) and _is_import_module(node):
            yield Import(str(ast.literal_eval(node.args[0])), "", "", is_for_types)
        if isinstance(node, ast.If) and _names_type_checking(node.test):
            for part in node.body:
                yield from _imports(ast.Module([part], []), is_for_types=True)
            for part in node.orelse:
                yield from _imports(ast.Module([part], []), is_for_types)
        else:
            yield from _imports(node, is_for_types)


def _names_type_checking(test: ast.expr) -> bool:
    return ast.unparse(test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}


def _is_import_module(node: ast.Call) -> bool:
    is_named = ast.unparse(node.func) in {"import_module", "importlib.import_module"}
    return is_named and bool(node.args) and isinstance(node.args[0], ast.Constant)


def python_sources(package: Path) -> dict[str, str]:
    """Read the modules of a package; a compiled one is known by its stub."""
    sources = {}
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.pyi")]):
        parts = path.relative_to(package.parent).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources[module] = path.read_text(encoding="utf-8")
    return sources


# Rust.

LITERALS = re.compile(
    r'//[^\n]*|/\*.*?\*/|b?r(#*)".*?"\1|b?"(?:\\.|[^"\\])*"|b?\'(?:\\.[^\']*|[^\'\\])\'', re.DOTALL
)
TEST_ITEM = re.compile(r"#\[cfg\(test\)\]")
USE = re.compile(r"\buse\s+([^;]+);")
PATH = re.compile(r"(?<![\w.:$])[a-z_]\w*(?:\s*::\s*\w+)+")
INLINE_MODULE = re.compile(r"\bmod\s+(\w+)\s*\{")
TYPE = re.compile(r"\b(?:struct|enum|union)\s+(\w+)")
INHERENT_IMPL = re.compile(r"^impl(?:<[^{]*?>)?\s+(\w+)(?:<[^{]*>)?\s*\{", re.MULTILINE)
FUNCTION = re.compile(r"\bfn\s+(\w+)")


@dataclass
class RustFile:
    """What a file's text says about uses, before names are resolved."""

    module: str
    code: str
    # Full paths by module, which may be an inline one, and local name.
    names: dict[tuple[str, str], str] = field(default_factory=dict)
    globs: list[str] = field(default_factory=list)


def rust_graph(sources: Mapping[str, str]) -> Graph:
    """Return what modules use outside of tests.

    `sources` maps module paths such as `crate::core::bar` to source texts; the root is `crate`.
    """
    files = {module: _read_rust(module, text, sources) for module, text in sources.items()}
    graph: Graph = {}
    for module, file in files.items():
        used = {_rust_origin(files, path) for path in _rust_paths(files, file)}
        graph[module] = {target for target in used if target is not None} - {module}
    for module, implementor in _foreign_methods(files):
        graph[module].add(implementor)
    return graph


def _read_rust(module: str, text: str, modules: Iterable[str]) -> RustFile:
    file = RustFile(module, _without_tests(LITERALS.sub(" ", text)))
    for match in USE.finditer(file.code):
        inside = _module_at(file, match.start())
        for path, alias in _use_tree(match[1]):
            full = _absolute(path, inside, modules)
            if alias == "*":
                file.globs.append(full)
            elif alias != "_":
                file.names[inside, alias] = full
    return file


def _without_tests(code: str) -> str:
    while match := TEST_ITEM.search(code):
        code = code[: match.start()] + code[_item_end(code, match.end()) :]
    return code


def _item_end(code: str, start: int) -> int:
    """Return where the item ends that begins at `start`: at a semicolon or a closing brace."""
    depth = 0
    for at in range(start, len(code)):
        depth += {"{": 1, "}": -1}.get(code[at], 0)
        if not depth and code[at] in ";}":
            return at + 1
    return len(code)


def _module_at(file: RustFile, at: int) -> str:
    """Return the path of the innermost inline module around a position."""
    inside = file.module
    for match in INLINE_MODULE.finditer(file.code):
        if match.end() <= at < _item_end(file.code, match.start()):
            inside += f"::{match[1]}"
    return inside


def _use_tree(tree: str) -> Iterator[tuple[str, str]]:
    """Yield path and local name of each leaf of a use tree."""
    tree = tree.strip()
    if tree.endswith("}"):
        prefix, _, inner = tree[:-1].partition("{")
        for part in _split_outside_braces(inner):
            for path, alias in _use_tree(part):
                full = (
                    prefix.strip().removesuffix("::") if path == "self" else prefix.strip() + path
                )
                yield full, full.rpartition("::")[2] if alias == "self" else alias
        return
    path, _, alias = (part.strip() for part in tree.partition(" as "))
    yield re.sub(r"\s", "", path), alias or path.rpartition("::")[2].strip()


def _split_outside_braces(text: str) -> Iterator[str]:
    depth, part = 0, ""
    for character in text + ",":
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and not depth:
            if part.strip():
                yield part.strip()
            part = ""
        else:
            part += character


def _absolute(path: str, inside: str, modules: Iterable[str]) -> str:
    """Return a path from the root, or as it is where it begins with a name of another kind."""
    first, _, rest = path.partition("::")
    if f"{inside}::{first}" in modules:
        return f"{inside}::{path}"
    if first == "self":
        return f"{inside}::{rest}"
    while first == "super":
        inside = inside.rpartition("::")[0]
        first, _, rest = rest.partition("::")
        if first != "super":
            return "::".join(part for part in (inside, first, rest) if part)
    return path


def _rust_paths(files: Mapping[str, RustFile], file: RustFile) -> Iterator[str]:
    """Yield the full paths that a file uses."""
    for full in file.names.values():
        # The name of a module is only a shorter way to write the paths that follow.
        if full not in files:
            yield full
    yield from file.globs
    code = USE.sub(lambda use: " " * len(use[0]), file.code)
    for match in PATH.finditer(code):
        path = re.sub(r"\s", "", match[0])
        first, _, rest = path.partition("::")
        inside = _module_at(file, match.start())
        if (inside, first) in file.names:
            yield f"{file.names[inside, first]}::{rest}"
        else:
            yield _absolute(path, inside, files)


def _rust_origin(files: Mapping[str, RustFile], path: str) -> str | None:
    """Return the module that defines what a path names, following imports and re-exports."""
    while path.startswith("crate"):
        module = path
        while module not in files:
            module = module.rpartition("::")[0]
        names = files[module].names
        rest = path.removeprefix(module).split("::")[1:]
        scopes = ["::".join([module, *rest[:length]]) for length in range(len(rest))]
        imported = [names[key] for key in zip(scopes, rest, strict=True) if key in names]
        if not imported or imported[0] == path:
            return module
        path = imported[0]
    return None


def _foreign_methods(files: Mapping[str, RustFile]) -> Iterator[tuple[str, str]]:
    """Yield modules that call a method on their own type, and the other module that has it."""
    home = {name: file.module for file in files.values() for name in TYPE.findall(file.code)}
    for file in files.values():
        for match in INHERENT_IMPL.finditer(file.code):
            owner = files.get(home.get(match[1], ""))
            if owner is None or owner is file:
                continue
            methods = set(
                FUNCTION.findall(file.code[match.end() : _item_end(file.code, match.start())])
            )
            methods -= set(FUNCTION.findall(owner.code))
            if any(
                re.search(rf"\bself\.{name}\(|\bSelf::{name}\b", owner.code) for name in methods
            ):
                yield owner.module, file.module


def rust_sources(folder: Path) -> dict[str, str]:
    """Read the modules of a crate."""
    sources = {}
    for path in sorted(folder.rglob("*.rs")):
        parts = path.relative_to(folder).with_suffix("").parts
        parts = parts[:-1] if parts[-1] in {"mod", "lib"} else parts
        sources["::".join(("crate", *parts))] = path.read_text(encoding="utf-8")
    return sources
