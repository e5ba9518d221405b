"""The manifest entry of one day."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_args

from rangebar_polars.day_ticks import Origin

__all__ = ["SETTLED", "STATES", "STORED_STATES", "DayEntry", "IdSpan", "State"]

State: TypeAlias = Literal["final", "tail", "given", "absent_confirmed", "quarantined"]

STATES: tuple[State, ...] = get_args(State)

#: First and last of a run of ids, both included.
IdSpan: TypeAlias = tuple[int, int]

#: States of a day whose ticks, or whose absence of ticks, are valid in the store.
STORED_STATES = frozenset({"final", "tail", "given", "absent_confirmed"})

#: States of a day that will not grow any more.
SETTLED = frozenset({"final", "given", "absent_confirmed"})

_NO_ORIGIN = Origin(kind="user")


@dataclass(frozen=True, slots=True)
class DayEntry:
    """One day of a manifest.

    A day without ticks has no file and no ids.
    """

    state: State
    #: Name of the file in the folder of its year. Empty without rows.
    file: str = ""
    bytes: int = 0
    sha256: str = ""
    #: Hash of the rows, independent of their encoding.
    content: str = ""
    columns: tuple[str, ...] = ()
    rows: int = 0
    first_id: int | None = None
    last_id: int | None = None
    #: Ids between the first and the last one that no row has.
    id_gaps: tuple[IdSpan, ...] = ()
    #: Ids that the source says it does not have.
    source_absent: tuple[IdSpan, ...] = ()
    min_ts_us: int | None = None
    max_ts_us: int | None = None
    origin: Origin = _NO_ORIGIN
    reason: str = ""
    fetched_at: str = ""
    writer: str = ""
    #: State and reason of a quarantined day before it was quarantined.
    kept_state: State | Literal[""] = ""
    kept_reason: str = ""

    @property
    def is_stored(self) -> bool:
        """Whether the day is valid in the store, that is, not quarantined."""
        return self.state in STORED_STATES

    @property
    def is_live(self) -> bool:
        """Whether the day consists of journals, and maybe a file. No manifest has such an entry."""
        return False

    @property
    def may_grow(self) -> bool:
        """Whether more ticks of the day may follow."""
        return self.state == "tail"

    def quarantined(self, reason: str) -> DayEntry:
        """Return the entry as that of a quarantined day."""
        return replace(
            self,
            state="quarantined",
            reason=reason,
            kept_state=self.state,
            kept_reason=self.reason,
        )

    def restored(self) -> DayEntry:
        """Return the entry as it was before the quarantine."""
        # Entries of older versions do not record the state. A tail is fetched again later.
        state = self.kept_state or ("given" if self.origin.kind == "user" else "tail")
        return replace(self, state=state, reason=self.kept_reason, kept_state="", kept_reason="")

    def to_json(self) -> dict[str, Any]:
        """Return the values of the fields that differ from their default."""
        values = ((item, getattr(self, item.name)) for item in fields(self))
        changed = {item.name: value for item, value in values if value != item.default}
        origin = ((item.name, getattr(self.origin, item.name)) for item in fields(self.origin))
        changed["origin"] = {name: value for name, value in origin if value}
        return changed

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DayEntry:
        """Make an entry of the values that `to_json` returns. `check_entry` validates it.

        Raises
        ------
        KeyError, TypeError, ValueError
            The values are not those of an entry.
        """
        known = {item.name for item in fields(cls)}
        arguments = {name: value for name, value in values.items() if name in known}
        for name in ("id_gaps", "source_absent"):
            arguments[name] = tuple((first, last) for first, last in arguments.get(name, ()))
        arguments["columns"] = tuple(arguments.get("columns", ()))
        # A newer version may have recorded more.
        names = [item.name for item in fields(Origin)]
        recorded = dict(arguments["origin"])
        arguments["origin"] = Origin(**{name: recorded[name] for name in names if name in recorded})
        return cls(**arguments)
