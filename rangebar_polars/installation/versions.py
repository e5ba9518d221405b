"""Versions of the package, of Polars, and of the libraries of the extras."""

from __future__ import annotations

import platform
import re
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars import _internal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Requirement", "extras", "package_facts", "requirement_of_polars", "show_versions"]

_DISTRIBUTION = "rangebar-polars"
_REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*([^;]*?)\s*(?:;(.*))?")
_EXTRA = re.compile(r"""extra\s*==\s*['"](\w+)['"]""")
_PLATFORM = re.compile(r"""sys_platform\s*(==|!=)\s*['"](\w+)['"]""")
_BOUND = re.compile(r"(>=|<=|<|>|==|~=|!=)\s*([\w.]+)")
#: The extra that is made of all others.
_ALL = "all"


@dataclass(frozen=True, slots=True)
class Requirement:
    """A library that the package or one of its extras needs."""

    library: str
    #: Such as `>=2.2,<3`; empty for any version.
    versions: str
    #: The installed version; None without one.
    installed: str | None

    @property
    def is_satisfied(self) -> bool:
        """Whether the library is installed in a version that the package accepts.

        Examples
        --------
        >>> from rangebar_polars.installation.versions import Requirement
        >>> Requirement("polars", ">=1.44.2", "2.1.0").is_satisfied
        True
        >>> Requirement("polars", ">=1.44.2", "1.9.0").is_satisfied
        False
        """
        if self.installed is None:
            return False
        installed = _numbers(self.installed)
        return all(
            _holds(installed, sign, _numbers(bound))
            for sign, bound in _BOUND.findall(self.versions)
        )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers at the beginning of a version, without zeros at their end."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in found.group().split(".")] if found else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _holds(installed: tuple[int, ...], sign: str, bound: tuple[int, ...]) -> bool:
    if sign == "<":
        return installed < bound
    # No requirement of the package has another upper bound.
    return installed >= bound if sign in (">=", "~=", ">") else True


def requirement_of_polars() -> Requirement:
    """Return the versions of Polars that the package accepts, and the installed one."""
    for name, versions, extra in _requirements():
        if name == "polars" and extra is None:
            return Requirement(name, versions, pl.__version__)
    return Requirement("polars", "", pl.__version__)


def extras() -> dict[str, list[Requirement]]:
    """Return the libraries of each extra on this platform, with their installed versions.

    Examples
    --------
    >>> from rangebar_polars.installation.versions import extras
    >>> [one.library for one in extras().get("pandas", [])] in ([], ["pandas", "pyarrow"])
    True
    """
    found: dict[str, list[Requirement]] = {}
    for name, versions, extra in _requirements():
        if extra is not None and extra != _ALL:
            requirement = Requirement(name, versions, installed_version(name))
            found.setdefault(extra, []).append(requirement)
    return found


def _requirements() -> Iterator[tuple[str, str, str | None]]:
    """Yield library, versions and extra of each requirement; none if the package is not installed."""
    try:
        listed = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return
    for text in listed:
        found = _REQUIREMENT.fullmatch(text)
        if found is None:
            continue
        name, versions, marker = found.group(1), found.group(2).strip("() "), found.group(3) or ""
        extra = _EXTRA.search(marker)
        if all((sign == "==") == (of == sys.platform) for sign, of in _PLATFORM.findall(marker)):
            yield name, versions.replace(" ", ""), extra.group(1) if extra else None


def installed_version(library: str) -> str | None:
    """Return the version of an installed library; None if it is not installed."""
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return None


def package_facts() -> dict[str, str]:
    """Return the versions and the machine, by their names in a bug report.

    Examples
    --------
    >>> from rangebar_polars.installation.versions import package_facts
    >>> list(package_facts())[:2]
    ['rangebar-polars', 'polars']
    """
    build = "debug" if _internal.__debug_build__ else "release"
    return {
        "rangebar-polars": f"{_internal.__version__} ({build} build)",
        "polars": pl.__version__,
        "python": sys.version.split(maxsplit=1)[0],
        "platform": f"{sys.platform} ({platform.machine()})",
        "instruction set": _internal.instruction_set(),
        "library": str(Path(_internal.__file__)),
    }


def show_versions() -> None:
    """Print the versions, the extras, the folders and the settings in force, for a bug report.

    Secrets are not printed. `rangebar doctor` checks the same, and whether the sources, the tick
    store and the bar cache can be reached.

    Examples
    --------
    >>> import rangebar_polars as rb
    >>> rb.show_versions()
    rangebar-polars: ...
    polars: ...
    """
    from rangebar_polars.config import config_folder, unknown_variables
    from rangebar_polars.exceptions import SettingError
    from rangebar_polars.installation.settings import settings_in_force

    facts = package_facts()
    for extra, libraries in extras().items():
        facts[f"extra {extra}"] = ", ".join(map(_line_of, libraries))
    chosen = settings_in_force()
    try:
        facts["configuration folder"] = str(config_folder())
    except SettingError as error:
        facts["configuration folder"] = str(error).partition("\n")[0]
    facts["cache folder"] = next(str(one) for one in chosen if one.name == "cache_dir")
    for one in chosen:
        if one.fault or one.origin != "default":
            text = one.fault.partition("\n")[0] or f"{one} ({one.set_by or one.origin})"
            facts[f"setting {one.name}"] = text
    for name, near in unknown_variables().items():
        facts[f"variable {name}"] = "not a setting" + (f"; did you mean {near}?" if near else "")
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()))  # noqa: T201


def _line_of(requirement: Requirement) -> str:
    return f"{requirement.library} {requirement.installed or 'not installed'}"
