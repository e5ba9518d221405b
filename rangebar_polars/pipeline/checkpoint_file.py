"""The bytes of a local copy of a state: version, length and checksum first, then the values."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode, b64encode
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any

from rangebar_polars import _internal
from rangebar_polars.clickhouse.series import Configuration, Family, FamilyKey, Series

if TYPE_CHECKING:
    from rangebar_polars.clickhouse.units import Unit

__all__ = ["LocalCheckpoint", "UnusableError", "decoded", "encoded", "name_of"]

_VERSION = 1
_WORDS = "rangebar checkpoint"
_SUFFIX = ".checkpoint"


class UnusableError(Exception):
    """Bytes that are no copy, or not one of this version."""


@dataclass(frozen=True, slots=True)
class LocalCheckpoint:
    """A copy of the state after a unit, and which unit that is."""

    series: Series
    day: date
    generation: int
    #: Of the unit: a random number, so that no other unit of any cache has it.
    attempt: int
    tick_last_id: int | None
    tick_hash: str
    state: bytes
    code_version: str

    @classmethod
    def of(cls, unit: Unit, state: bytes) -> LocalCheckpoint:
        """Copy of a unit's state."""
        return cls(
            unit.series,
            unit.day,
            unit.generation,
            unit.attempt,
            unit.tick_last_id,
            unit.tick_hash,
            state,
            _internal.__version__,
        )

    def is_of(self, unit: Unit) -> bool:
        """Whether it is the copy of this unit and no other."""
        return self == replace(self.of(unit, self.state), code_version=self.code_version)


def name_of(series: Series) -> str:
    """Name of the file of a series."""
    return f"{series.lease_key.file_name}-{series.anchor_us}{_SUFFIX}"


def encoded(checkpoint: LocalCheckpoint) -> bytes:
    """Bytes of a copy."""
    values = asdict(checkpoint)
    series = checkpoint.series
    key = {**series.key._asdict(), "segment_start": series.segment_start.isoformat()}
    values |= {
        "series": key,
        "configuration": asdict(series.family.configuration),
        "day": checkpoint.day.isoformat(),
        "state": b64encode(checkpoint.state).decode(),
    }
    body = json.dumps(values, separators=(",", ":")).encode() + b"\n"
    return _first_line(body) + body


def _first_line(body: bytes) -> bytes:
    """Version, length and CRC of what follows."""
    return f"{_WORDS} {_VERSION} {len(body)} {zlib.crc32(body):08x}\n".encode()


def decoded(data: bytes, name: str) -> LocalCheckpoint:
    """The copy in a file of this name."""
    first, line, body = data.partition(b"\n")
    if first + line != _first_line(body):
        raise UnusableError(_fault_of(first))
    try:
        found = _from_values(json.loads(body))
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableError(f"it lacks a value: {error}") from error
    if name_of(found.series) != name:
        raise UnusableError(f"it is of {found.series}")
    return found


def _fault_of(first: bytes) -> str:
    """Why a first line is not the one of the bytes that follow."""
    other = re.fullmatch(rf"{_WORDS} (\d+)( .*)?", first.decode("ascii", "replace"))
    if other and int(other[1]) != _VERSION:
        return f"another version wrote it ({other[1]})"
    return "its bytes are not those that were written"


def _from_values(values: dict[str, Any]) -> LocalCheckpoint:
    key = values.pop("series")
    parts = {name: key[name] for name in FamilyKey._fields[:-1]}
    family = Family(**parts, configuration=Configuration(**values.pop("configuration")))
    series = Series(family, date.fromisoformat(key["segment_start"]), key["anchor_us"])
    values["day"] = date.fromisoformat(values["day"])
    values["state"] = b64decode(values["state"], validate=True)
    return LocalCheckpoint(series=series, **values)
