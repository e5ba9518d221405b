"""No two modules use each other, directly or through others: Python, Rust, and imports for types.

`module_graph` says what counts as a use. Imports for types are held to the same law as all others:
whatever two modules both name in annotations has its place in a module below them.
"""

from __future__ import annotations

from pathlib import Path

from module_graph import circles, python_graphs, python_sources, rust_graph, rust_sources

ROOT = Path(__file__).resolve().parent.parent


def described(paths: list[list[str]]) -> str:
    return "\n".join(" -> ".join(path) for path in paths)


def test_python_modules_form_no_circle():
    runtime, _ = python_graphs(python_sources(ROOT / "rangebar_polars"))
    assert sum(map(len, runtime.values())) > 100
    assert not (found := circles(runtime)), described(found)


def test_python_modules_form_no_circle_through_imports_for_types():
    _, with_types = python_graphs(python_sources(ROOT / "rangebar_polars"))
    assert not (found := circles(with_types)), described(found)


def test_rust_modules_form_no_circle():
    graph = rust_graph(rust_sources(ROOT / "src"))
    assert "crate::core::rule" in graph["crate::core::search"]
    assert sum(map(len, graph.values())) > 100
    assert not (found := circles(graph)), described(found)


# The finder itself.


def test_a_circle_is_printed_as_a_path():
    graph = {
        "a": {"b"},
        "b": {"c", "d"},
        "c": set(),
        "d": {"a"},
        "e": {"a"},
        "f": {"g"},
        "g": {"f"},
    }
    assert circles(graph) == [["a", "b", "d", "a"], ["f", "g", "f"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_an_import_inside_a_function_counts():
    runtime, _ = python_graphs(
        {
            "p": "",
            "p.a": "from p.b import f",
            "p.b": "def f():\n    from p import a\n    return a",
        }
    )
    assert circles(runtime) == [["p.a", "p.b", "p.a"]]


def test_an_import_by_name_counts():
    runtime, _ = python_graphs(
        {
            "p": "",
            "p.a": "import p.b",
            "p.b": "import importlib\nimportlib.import_module('p.a')",
        }
    )
    assert circles(runtime) == [["p.a", "p.b", "p.a"]]


def test_imports_for_types_count_apart():
    runtime, with_types = python_graphs(
        {
            "p": "",
            "p.a": "from p.b import f",
            "p.b": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.a import A\nelse:\n    import p.c",
            "p.c": "",
        }
    )
    assert circles(runtime) == []
    assert runtime["p.b"] == {"p.c"}
    assert circles(with_types) == [["p.a", "p.b", "p.a"]]


def test_a_package_that_reexports_its_modules_is_no_circle():
    package = "from p.a import f\nfrom p.b import g\n"
    modules = {"p.a": "from p import g", "p.b": "def g(): ..."}
    runtime, _ = python_graphs({"p": package, **modules})
    assert runtime["p.a"] == {"p.b"}
    assert circles(runtime) == []
    own = {"p": package + "LIMIT = 1", **modules, "p.a": "from p import LIMIT"}
    assert circles(python_graphs(own)[0]) == [["p", "p.a", "p"]]


def test_rust_paths_are_followed_to_the_defining_module():
    graph = rust_graph(
        {
            "crate": "mod a; mod b;",
            "crate::a": "mod c; pub use c::Name; use crate::b::{self, deep::{Thing as Other, More}};",
            "crate::a::c": "pub struct Name; fn f() { super::super::b::g(); }",
            "crate::b": 'pub mod deep; // crate::a::Name\nfn g() { let text = "crate::a"; }',
            "crate::b::deep": "use crate::a::Name;",
        }
    )
    assert graph["crate::a"] == {"crate::a::c", "crate::b::deep"}
    assert graph["crate::a::c"] == {"crate::b"}
    assert graph["crate::b"] == set()
    assert graph["crate::b::deep"] == {"crate::a::c"}
    assert circles(graph) == []


def test_a_child_that_uses_what_its_parent_defines_and_serves_it_is_a_circle():
    parent = "mod child; pub const LIMIT: usize = 1; fn f() { child::g() }"
    child = "use super::LIMIT; pub fn g() {}"
    assert circles(rust_graph({"crate": "", "crate::p": parent, "crate::p::child": child})) == [
        ["crate::p", "crate::p::child", "crate::p"]
    ]
    declared = "mod child; pub const LIMIT: usize = 1;"
    assert circles(rust_graph({"crate": "", "crate::p": declared, "crate::p::child": child})) == []


def test_code_for_tests_and_inline_modules_belong_to_their_file():
    graph = rust_graph(
        {
            "crate": "",
            "crate::a": "mod fast { use super::super::b::f; }\n"
            "#[cfg(test)]\nmod tests { use crate::c::g; }\nuse crate::d::h;",
            "crate::b": "use crate::a::fast::Thing;",
            "crate::c": "#[cfg(test)]\nuse crate::a::x;\nfn g() { crate::d::h() }",
            "crate::d": "",
        }
    )
    assert graph["crate::a"] == {"crate::b", "crate::d"}
    assert graph["crate::c"] == {"crate::d"}
    assert circles(graph) == [["crate::a", "crate::b", "crate::a"]]


def test_a_method_of_ones_own_type_in_another_module_is_a_use():
    own = "pub struct State; impl State { fn push(&self) { self.retrace() } }"
    other = "use crate::a::State;\nimpl State { pub fn retrace(&self) {} }"
    assert circles(rust_graph({"crate": "", "crate::a": own, "crate::b": other})) == [
        ["crate::a", "crate::b", "crate::a"]
    ]
    unused = own.replace("self.retrace()", "")
    assert circles(rust_graph({"crate": "", "crate::a": unused, "crate::b": other})) == []
