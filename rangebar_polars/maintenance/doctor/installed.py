"""Checks of versions, extras, settings and variables of the environment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars import _internal
from rangebar_polars._utils.optional import import_extra
from rangebar_polars._utils.symbol_names import variable_suffix
from rangebar_polars.config import (
    in_time_zone,
    minimum_threshold_setting,
    minimum_threshold_variables,
    unknown_variables,
)
from rangebar_polars.exceptions import BrokenExtraError, MissingExtraError, SettingError, split_hint
from rangebar_polars.installation.settings import settings_in_force
from rangebar_polars.installation.variables import MINIMUM_THRESHOLD
from rangebar_polars.installation.versions import extras, package_facts, requirement_of_polars
from rangebar_polars.maintenance.doctor.findings import Finding, of_error
from rangebar_polars.symbol_registry import get_symbol_entries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rangebar_polars.installation.versions import Requirement

__all__ = ["check_extras", "check_settings", "check_versions"]

VERSIONS, EXTRAS, SETTINGS = "versions", "extras", "settings"
#: Modules that do not have the name of their library.
_MODULES = {"scikit-learn": "sklearn"}


def check_versions() -> Iterator[Finding]:
    """Check the package and Polars."""
    facts = package_facts()
    polars = requirement_of_polars()
    for name, fact in facts.items():
        if name == "rangebar-polars" and _internal.__debug_build__:
            hint = "make build, or install a wheel"
            yield Finding(VERSIONS, name, "note", f"{fact}: many times slower", hint)
        elif name == "polars" and not polars.is_satisfied:
            text = f"{fact} is installed; the package needs {polars.versions}"
            yield Finding(VERSIONS, name, "problem", text, f"pip install 'polars{polars.versions}'")
        else:
            yield Finding(VERSIONS, name, "ok", fact)


def check_extras() -> Iterator[Finding]:
    """Check the libraries of each extra: installed, in a version that fits, and not broken."""
    for extra, libraries in extras().items():
        install = f"pip install 'rangebar-polars[{extra}]'"
        missing = [one.library for one in libraries if one.installed is None]
        old = [one for one in libraries if one.installed is not None and not one.is_satisfied]
        present = [one for one in libraries if one.is_satisfied]
        broken = [error for one in present if (error := _fault(one, extra)) is not None]
        for error in broken:
            yield of_error(EXTRAS, extra, error)
        for one in old:
            text = f"{one.library} {one.installed} is installed; the extra needs {one.versions}"
            yield Finding(EXTRAS, extra, "problem", text, f"{install} --upgrade")
        listed = ", ".join(f"{one.library} {one.installed}" for one in present)
        if missing:
            text = f"not installed: {', '.join(missing)}"
            yield Finding(EXTRAS, extra, "note", f"{text} ({listed})" if listed else text, install)
        elif not broken and not old:
            yield Finding(EXTRAS, extra, "ok", listed)


def _fault(requirement: Requirement, extra: str) -> ImportError | None:
    """Return why an installed library cannot be imported; None if it can."""
    library = requirement.library
    module = _MODULES.get(library, library.removesuffix("-python").replace("-", "_"))
    try:
        # The engine of the bar cache does not start with some values of `TZ`.
        with in_time_zone("UTC"):
            import_extra(module, extra)
    except (BrokenExtraError, MissingExtraError) as error:
        return error
    return None


def check_settings(arguments: Mapping[str, object]) -> Iterator[Finding]:
    """Report settings that differ from their defaults, are invalid, or are misspelt."""
    chosen = settings_in_force(**arguments)
    for one in chosen:
        if one.fault:
            text, hint = split_hint(one.fault)
            yield Finding(SETTINGS, one.name, "problem", text, hint)
        elif one.origin != "default":
            yield Finding(SETTINGS, one.name, "ok", f"{one} ({one.set_by or one.origin})")
    count = sum(one.origin == "default" and not one.fault for one in chosen)
    yield Finding(SETTINGS, "others", "ok", f"{count} defaults; `rangebar config` lists them")
    for name, near in unknown_variables().items():
        text = "this variable is not a setting, and has no effect"
        if near is None:
            yield Finding(SETTINGS, name, "note", text)
        else:
            yield Finding(SETTINGS, name, "problem", text, f"did you mean `{near}`?")
    yield from _check_minimums()


def _check_minimums() -> Iterator[Finding]:
    """Check the smallest thresholds of single symbols."""
    variables = minimum_threshold_variables()
    if not variables:
        return
    known = {variable_suffix(name) for name in get_symbol_entries()}
    for symbol in variables:
        name = f"{MINIMUM_THRESHOLD}{symbol}"
        try:
            value = minimum_threshold_setting(symbol)
        except SettingError as error:
            yield of_error(SETTINGS, name, error)
            continue
        if symbol in known:
            yield Finding(SETTINGS, name, "ok", f"{value} dbps")
        else:
            yield Finding(SETTINGS, name, "note", f"no registered symbol is called {symbol}")
