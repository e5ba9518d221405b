"""Checkpoints that were altered and sealed again with a valid checksum."""

from __future__ import annotations

import hashlib
import json
import struct
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rangebar_polars as rb
from rangebar_polars.exceptions import CheckpointError, RangeBarError
from repetitions import repeated

if TYPE_CHECKING:
    from collections.abc import Callable

KEYS: dict[str, pl.Series] = {
    "String": pl.Series(["a", None, "a longer name of a key", "b"]),
    "Enum": pl.Series(["a", "b", "a", None], dtype=pl.Enum(["a", "b"])),
    "Categorical": pl.Series(["a", "b", "c", "a"], dtype=pl.Categorical),
    "Boolean": pl.Series([True, None, False, True]),
    "Int8": pl.Series([-128, 127, None, 0], dtype=pl.Int8),
    "UInt64": pl.Series([2**64 - 1, 0, 1, 1], dtype=pl.UInt64),
    "Float64": pl.Series([float("nan"), 0.0, float("inf"), None]),
    "Float32": pl.Series([0.1, -0.0, 0.0, None], dtype=pl.Float32),
    "Date": pl.Series([date(2024, 1, 1), date(1, 1, 1), None, None]),
    "Time": pl.Series([time(0), time(23, 59, 59, 999_999), None, None]),
    "Datetime": pl.Series([datetime(2024, 1, 1, tzinfo=UTC)] * 3 + [None]).dt.convert_time_zone(
        "Asia/Tokyo"
    ),
    "Duration": pl.Series([timedelta(days=1), timedelta(0), None, None]),
}


def seal(header: bytes, state: bytes) -> bytes:
    lengths = [struct.pack("<Q", len(part)) for part in (header, state)]
    body = b"rangebar" + struct.pack("<I", 1) + lengths[0] + header + lengths[1] + state
    return body + hashlib.sha256(body).digest()


def parts(checkpoint: bytes) -> tuple[bytes, bytes]:
    length = int.from_bytes(checkpoint[12:20], "little")
    return checkpoint[20 : 20 + length], checkpoint[28 + length : -32]


def trades(key: pl.Series | None = None) -> pl.DataFrame:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    frame = pl.DataFrame(
        {
            "timestamp": [start + timedelta(minutes=minute) for minute in (0, 1, 1, 2)],
            "price": [100.0, 100.1, 100.05, 100.2],
            "quantity": [1.0, 0.0, 2.5, 3.0],
            "is_buyer_maker": [True, False, True, False],
            "agg_trade_id": [4, 5, 7, 8],
            "first_trade_id": [10, 11, 15, 19],
            "last_trade_id": [10, 13, 18, 19],
        }
    )
    return frame if key is None else frame.with_columns(key.alias("key"))


def checkpoint_of(key: pl.Series | None = None, **arguments: Any) -> bytes:
    if key is not None:
        arguments["group_by"] = ["key", "other"]
    builder = rb.RangeBarBuilder([250, 400], features="microstructure", **arguments)
    builder.push(trades(key).with_columns(other=pl.lit("x")))
    return builder.checkpoint()


CHECKPOINTS = {
    "plain": checkpoint_of(),
    "rules": checkpoint_of(
        reset="day", max_gap="1h", incomplete="keep", prevent_same_timestamp_close=False
    ),
    "unbound": rb.RangeBarBuilder(250, group_by="key").checkpoint(),
    **{name: checkpoint_of(key) for name, key in KEYS.items()},
}


def resume(data: bytes) -> bool:
    """Whether the bytes are taken; what is taken must work as every builder does."""
    try:
        builder = rb.RangeBarBuilder.from_checkpoint(data)
    except CheckpointError:
        return False
    partial = builder.partial()
    kept = builder.checkpoint()
    again = rb.RangeBarBuilder.from_checkpoint(kept)
    assert again.checkpoint() == kept
    assert again.partial().equals(partial)
    key = KEYS[str(partial.schema["key"].base_type())] if "key" in partial.columns else None
    later = pl.col("timestamp") + timedelta(days=400)
    frame = trades(key).with_columns(later, pl.col("agg_trade_id") + 10**6, other=pl.lit("x"))
    try:
        builder.push(frame)
    except (RangeBarError, TypeError, ValueError):
        assert builder.checkpoint() == kept
    repr(builder)
    return True


def words(depth: int = 2) -> st.SearchStrategy[Any]:
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.sampled_from([0, 1, 2, 250, 100_000, 100_001, 65_536, 2**32, 2**63, 2**64]),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from(
            [*KEYS, "price", "key", "day", "1ns", "us", "Int128", "Binary", "UTC", "Mars/Phobos"]
        ),
    )
    if not depth:
        return scalars
    inner = words(depth - 1)
    return st.one_of(
        scalars,
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=4), inner, max_size=2),
    )


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, (dict, list)):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            found += places(inner, (*path, name))
    return found


def edited(header: Any, path: tuple[Any, ...], edit: Callable[[Any, Any], None]) -> Any:
    copy = json.loads(json.dumps(header))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    edit(inner, path[-1])
    return copy


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_sealed_again_is_the_same(name: str) -> None:
    header, state = parts(CHECKPOINTS[name])
    assert seal(header, state) == CHECKPOINTS[name]
    assert resume(CHECKPOINTS[name])


@settings(max_examples=200)
@given(st.data())
def test_an_altered_header_is_refused_or_works(data: st.DataObject) -> None:
    header, state = parts(CHECKPOINTS[data.draw(st.sampled_from(list(CHECKPOINTS)))])
    value = json.loads(header)
    for _ in range(data.draw(st.integers(1, 2))):
        path = data.draw(st.sampled_from(places(value)[1:]))
        word = data.draw(words())
        edits: list[Callable[[Any, Any], None]] = [
            lambda inner, name, word=word: inner.__setitem__(name, word),
            lambda inner, name: inner.__delitem__(name),
            lambda inner, name, word=word: (
                inner.insert(name, word)
                if isinstance(inner, list)
                else inner.__setitem__(str(word), inner[name])
            ),
        ]
        value = edited(value, path, data.draw(st.sampled_from(edits)))
    resume(seal(json.dumps(value).encode("utf-8", "surrogatepass"), state))


@settings(max_examples=200)
@given(st.data())
def test_an_altered_state_is_refused_or_works(data: st.DataObject) -> None:
    header, state = parts(CHECKPOINTS[data.draw(st.sampled_from(list(CHECKPOINTS)))])
    altered = bytearray(state)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, max(0, len(altered) - 1)))
        new = data.draw(
            st.one_of(
                st.binary(max_size=9),
                st.integers(0, 2**64 - 1).map(lambda word: word.to_bytes(8, "little")),
                st.sampled_from([b"\xff" * 8, b"\0" * 8, b"\xff" * 7 + b"\x7f", b"\1" + b"\0" * 7]),
            )
        )
        replaced = data.draw(st.sampled_from([len(new), 0, 1]))
        altered[at : at + replaced] = new
    resume(seal(header, bytes(altered)))


def keys_start(state: bytes) -> int:
    """Return where the keys of a state begin, behind the state of the builder."""
    return 8 + int.from_bytes(state[:8], "little")


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_each_byte_of_a_state_is_refused_or_works(name: str) -> None:
    header, state = parts(CHECKPOINTS[name])
    # Behind keys of any data type, the state of the builder has one form.
    step = repeated(11, 1) if name in KEYS and name != "String" else 1
    start = keys_start(state) if name in KEYS else len(state)
    for place in [*range(0, start, step), *range(start, len(state))]:
        altered = bytearray(state)
        altered[place] ^= 128 if place % 2 else 1
        resume(seal(header, bytes(altered)))
    for length in range(0, len(state), 7):
        assert not resume(seal(header, state[:length]))
    assert not resume(seal(header, state + b"\0"))


def with_header(name: str, old: bytes, new: bytes) -> bytes:
    header, state = parts(CHECKPOINTS[name])
    assert old in header
    return seal(header.replace(old, new), state)


IMPOSSIBLE = {
    "a nested header": seal(b"[" * 100_000, parts(CHECKPOINTS["plain"])[1]),
    "a header that is no text": seal(b"\xff", parts(CHECKPOINTS["plain"])[1]),
    "a number of 5,000 digits": with_header("plain", b"250", b"9" * 5_000),
    "an infinite threshold": with_header("plain", b"250", b"1e309"),
    "a gap beyond 64 bits": with_header("rules", b"3600000000000ns", b"9" * 19 + b"ns"),
    "another zone": with_header("Datetime", b"Asia/Tokyo", b"Mars/Tokyo"),
    "a data type that is not taken": with_header("plain", b"Float64", b"Float32"),
    "repeated categories": with_header("Enum", b'["a","b"]', b'["a","a"]'),
    "a repeated key": with_header("Boolean", b'"other"', b'"key"'),
    "no columns for rows": seal(parts(CHECKPOINTS["unbound"])[0], parts(CHECKPOINTS["plain"])[1]),
    "a state of no length": seal(parts(CHECKPOINTS["plain"])[0], b""),
    "the state of other thresholds": with_header("plain", b"[250,400]", b"[400]"),
    "no reset for the end of a segment": with_header("rules", b'"reset":"day"', b'"reset":null'),
    "a reset without the end of a segment": with_header("plain", b'"reset":null', b'"reset":"day"'),
    "a gap shorter than a pause": with_header("rules", b"3600000000000ns", b"1ns"),
    "a threshold that was reached": with_header("plain", b"[250,400]", b"[10,400]"),
}


@pytest.mark.parametrize("name", IMPOSSIBLE)
def test_what_cannot_have_been_written_is_refused(name: str) -> None:
    with pytest.raises(CheckpointError, match="checkpoint"):
        rb.RangeBarBuilder.from_checkpoint(IMPOSSIBLE[name])


@pytest.mark.parametrize("name", [name for name in KEYS if name != "Categorical"])
def test_keys_are_values_of_their_dtype_and_distinct(name: str) -> None:
    header, state = parts(CHECKPOINTS[name])
    builder, keys = state[: keys_start(state)], state[keys_start(state) :]
    size = int.from_bytes(keys[8:16], "little")
    first = keys[8 : 16 + size]
    for forged in (b"\xff\xfe", b"\xff" * 8, b"\x7f" + b"\xff" * 6 + b"\x7f", b""):
        altered = keys[:8] + len(forged).to_bytes(8, "little") + forged + keys[16 + size :]
        resume(seal(header, builder + altered))
    assert not resume(seal(header, builder + keys[:8] + first + first + keys[16 + size :]))
    fewer = (int.from_bytes(keys[:8], "little") - 1).to_bytes(8, "little")
    assert not resume(seal(header, builder + fewer + keys[8:]))
