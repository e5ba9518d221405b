"""The settings in force, each with its origin."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rangebar_polars._utils.settings.types import DSN
from rangebar_polars.config import (
    config_file_values,
    parsed_value,
    require_known,
    setting_fields,
    variable_of,
    written_value,
)
from rangebar_polars.exceptions import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field

    from rangebar_polars.config import Written

__all__ = ["SettingInForce", "settings_in_force"]


@dataclass(frozen=True, slots=True)
class SettingInForce:
    """A setting, its value, and where the value comes from. Secrets are shown as `…`."""

    name: str
    #: A path, text, number or switch; None without one, or if the value is not valid.
    value: str | float | bool | None
    origin: Literal["argument", "environment", "file", "default"]
    #: The argument, the variable or the file that sets it; empty for a default.
    set_by: str
    #: The variable that sets it.
    variable: str
    meaning: str
    #: What a default of None means.
    default_text: str
    #: Why the value is not valid; empty if it is.
    fault: str = ""

    def __str__(self) -> str:
        """Return the value as a text for people."""
        if self.fault:
            return "not valid"
        if self.value is None:
            return self.default_text
        return str(self.value).lower() if isinstance(self.value, bool) else str(self.value)


def settings_in_force(**arguments: object) -> list[SettingInForce]:
    """Return every setting with its value and its origin, also those whose value is not valid.

    Parameters
    ----------
    **arguments
        As for `rangebar_polars.config.settings`.

    Examples
    --------
    >>> from rangebar_polars.installation.settings import settings_in_force
    >>> found = {one.name: one for one in settings_in_force(http_tries=2)}
    >>> found["http_tries"].value, found["http_tries"].origin
    (2, 'argument')
    >>> str(found["binance_rest_url"])
    "Binance's own for each market"
    """
    require_known(arguments)
    fault = ""
    try:
        table = config_file_values(arguments)
    except SettingError as error:
        table, fault = {}, str(error)
    return [_in_force(item, arguments, table, fault) for item in setting_fields()]


def _in_force(
    item: Field[Any], arguments: Mapping[str, object], table: Mapping[str, Written], fault: str
) -> SettingInForce:
    described = item.metadata["setting"]
    written = written_value(item.name, arguments, table)
    value: object = None
    of_value = fault if item.name == "config" else ""
    try:
        value = _default(item) if written is None else parsed_value(item.name, written)
    except SettingError as error:
        of_value = str(error)
    return SettingInForce(
        item.name,
        None if of_value and item.name != "config" else _shown(item, value),
        "default" if written is None else written.origin,
        "" if written is None else written.by,
        variable_of(item.name),
        described.meaning,
        described.default_text or "none",
        of_value,
    )


def _default(item: Field[Any]) -> object:
    if item.default_factory is not MISSING:
        return item.default_factory()
    return item.default


def _shown(item: Field[Any], value: object) -> str | float | bool | None:
    """Return a value without its secrets, in a form that JSON has."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    # An address shows itself without its secrets.
    is_secret = not item.repr and item.metadata["setting"].kind is not DSN
    return "…" if is_secret and not isinstance(value, Path) else str(value)
