"""What a manifest says about one day."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, TypeAlias, get_args

from rangebar_polars.sources import Origin

__all__ = ["KEPT", "STATES", "DayEntry", "IdSpan", "State"]

State: TypeAlias = Literal["final", "tail", "given", "absent_confirmed", "quarantined"]

STATES: tuple[State, ...] = get_args(State)

#: First and last of a run of ids, both included.
IdSpan: TypeAlias = tuple[int, int]

#: States of a day whose ticks, or their absence, the store vouches for.
KEPT = frozenset({"final", "tail", "given", "absent_confirmed"})

_NO_ORIGIN = Origin(kind="user")


@dataclass(frozen=True, slots=True)
class DayEntry:
    """One day of a manifest.

    A day without ticks has no file and no ids.
    """

    state: State
    #: Name of the file in the folder of its year; empty where there is none.
    file: str = ""
    bytes: int = 0
    sha256: str = ""
    #: Hash of the rows, whatever their encoding.
    content: str = ""
    columns: tuple[str, ...] = ()
    rows: int = 0
    first_id: int | None = None
    last_id: int | None = None
    #: Ids between the first and the last that no row has.
    id_gaps: tuple[IdSpan, ...] = ()
    #: Ids that the source says it does not have.
    source_absent: tuple[IdSpan, ...] = ()
    min_ts_us: int | None = None
    max_ts_us: int | None = None
    origin: Origin = _NO_ORIGIN
    reason: str = ""
    fetched_at: str = ""
    writer: str = ""
    #: State and reason of a quarantined day before its file was found at fault.
    kept_state: State | Literal[""] = ""
    kept_reason: str = ""

    @property
    def is_kept(self) -> bool:
        """Whether the store vouches for the day."""
        return self.state in KEPT

    def quarantined(self, reason: str) -> DayEntry:
        """Return the same day, out of service."""
        return replace(
            self,
            state="quarantined",
            reason=reason,
            kept_state=self.state,
            kept_reason=self.reason,
        )

    def restored(self) -> DayEntry:
        """Return a quarantined day as it was before, its file being right again."""
        # An entry of an older version does not have its state. A tail is fetched again in time.
        state = self.kept_state or ("given" if self.origin.kind == "user" else "tail")
        return replace(self, state=state, reason=self.kept_reason, kept_state="", kept_reason="")

    def to_json(self) -> dict[str, Any]:
        """Values of the fields that are not at their default."""
        values = asdict(self)
        plain = {item.name: item.default for item in fields(self)}
        kept = {name: value for name, value in values.items() if value != plain[name]}
        kept["origin"] = {name: value for name, value in values["origin"].items() if value}
        return kept

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DayEntry:
        """Make the day of the values that `to_json` gives; `judge_entry` judges it.

        Raises
        ------
        KeyError, TypeError, ValueError
            The values are not those of a day.
        """
        known = {item.name for item in fields(cls)}
        given = {name: value for name, value in values.items() if name in known}
        for name in ("id_gaps", "source_absent"):
            given[name] = tuple((first, last) for first, last in given.get(name, ()))
        given["columns"] = tuple(given.get("columns", ()))
        given["origin"] = Origin(**given["origin"])
        return cls(**given)
