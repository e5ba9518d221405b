"""What a notification says, and how long it is."""

from __future__ import annotations

import html
import socket
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import rangebar_polars as rb
from rangebar_polars import events
from rangebar_polars.events import EVENT_NAMES, FAILURES, HookPayload
from rangebar_polars.notify.coalescing import Digest, First, Line, Repeats, Status
from rangebar_polars.notify.wording import escaped, note_of


def payload(event: events.Event) -> HookPayload:
    return HookPayload.of(event.name, event.symbol, event.trace_id, event.details())


def test_a_message_has_the_event_in_words_symbol_fields_host_and_version() -> None:
    event = events.ArchiveDiffers("BTCUSDT", date(2026, 11, 2), (7, 9), 2, 1, 0)
    note = note_of(First(payload(event)))
    text = "BTCUSDT: day 2026-11-02, ids 7 9, bars changed 2, bars added 1, bars removed 0"
    text += f" ({socket.gethostname()}, rangebar-polars {rb.__version__})"
    assert note == ("rangebar: archive differs", text, True, "normal")


def test_fields_without_a_value_are_left_out() -> None:
    note = note_of(First(payload(events.SidecarLive("ETHUSDT", "live", "", 2.5))))
    assert note.text.startswith("ETHUSDT: state live, away s 2.5 (")
    assert not note.is_failure
    bare = note_of(First(HookPayload("sidecar_stopped", "ETHUSDT")))
    assert bare.text.startswith("ETHUSDT (")


def test_markup_and_control_characters_are_escaped() -> None:
    event = events.ConsumerFailed("<b>X", "a&b", 1, 2, "</b>\x1b[2J\ud800")
    text = note_of(First(payload(event))).text
    assert text.startswith(
        "&lt;b&gt;X: consumer a&amp;b, first id 1, last id 2, reason &lt;/b&gt;\\x1b"
    )
    text.encode()


def test_repeats_have_a_line_each_with_their_number() -> None:
    lines = (
        Line("download_failed", "BTCUSDT", 199, 12.4, is_failure=True, has_first=False),
        Line("ticks_written", "A\nB", 3, 1.0, is_failure=False, has_first=True),
    )
    note = note_of(Repeats(lines))
    assert note.title == "rangebar: repeated events"
    assert note.text.partition(" (")[0].splitlines() == [
        "download failed, BTCUSDT: 199 more in 12 s",
        "ticks written, A B: 3 in 1 s",
    ]
    assert note.is_failure
    one = note_of(Repeats(lines[:1]))
    assert one.title == "rangebar: download failed"
    assert not note_of(Repeats(lines[1:])).is_failure


def test_a_digest_says_how_many_events_it_is_about() -> None:
    lines = tuple(
        Line("gap_detected", f"SYMBOL<{number}>", number, 60.0, is_failure=True, has_first=True)
        for number in range(1, 201)
    )
    note = note_of(Digest(lines, 7))
    assert note.title == "rangebar: 20,107 events in one message"
    assert len(note.title) + len(note.text) <= 1000
    *first, before_last, last = note.text.splitlines()
    assert before_last == f"and {200 - len(first)} further lines"
    assert last.startswith("and 7 other events (")


def test_a_status_is_no_failure() -> None:
    note = note_of(Status("BTCUSDT live"))
    assert note.text.startswith("BTCUSDT live (")
    assert (note.title, note.is_failure, note.priority) == ("rangebar: status", False, "normal")


@pytest.mark.parametrize(
    ("name", "priority"),
    [
        ("symbol_not_registered", "emergency"), ("checksum_failed", "emergency"),
        ("sidecar_failed", "high"), ("threshold_violation", "normal"), ("gap_healed", "normal"),
    ],
)  # fmt: skip
def test_only_a_first_event_has_a_priority(name: str, priority: str) -> None:
    assert note_of(First(HookPayload(name, "X"))).priority == priority
    line = Line(name, "X", 3, 1.0, is_failure=True, has_first=False)
    assert note_of(Repeats((line,))).priority == "normal"
    # A digest with events that were no message of their own stands for them.
    first = Line(name, "X", 3, 1.0, is_failure=True, has_first=True)
    assert note_of(Digest((line, first), 0)).priority == priority


@given(text=st.text(max_size=80), longest=st.integers(1, 60))
def test_a_shortened_text_is_valid_and_a_start_of_the_whole(text: str, longest: int) -> None:
    found = escaped(text, longest)
    assert len(found) <= longest
    assert "<" not in found
    whole = escaped(text, 10**6)
    assert found == whole or html.unescape(whole).startswith(html.unescape(found).removesuffix("…"))
    # No entity is cut.
    assert html.escape(html.unescape(found), quote=False) == found


@given(
    name=st.sampled_from(sorted(EVENT_NAMES)),
    symbol=st.text(max_size=200),
    details=st.dictionaries(
        st.text(max_size=40),
        st.one_of(
            st.text(max_size=2000), st.floats(), st.integers(), st.none(), st.lists(st.text()),
            st.dates(), st.just(Path("a/<b>")), st.binary(max_size=30),
        ),
        max_size=30,
    ),
)  # fmt: skip
def test_every_message_is_short_escaped_and_can_be_encoded(
    name: str, symbol: str, details: dict
) -> None:
    note = note_of(First(HookPayload(name, symbol, details=details, is_failure=name in FAILURES)))
    assert len(note.title) + len(note.text) <= 1000
    assert "<" not in note.title + note.text
    assert note.text.endswith(f"rangebar-polars {rb.__version__})")
    note.text.encode()
