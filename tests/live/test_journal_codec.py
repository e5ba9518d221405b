"""Journals as bytes, against a plain model of the layout."""

from __future__ import annotations

import struct
import zlib
from datetime import date

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rangebar_polars import _internal
from rangebar_polars.live.protocol.trades import Trade, TradeColumns
from rangebar_polars.sources import TRADES_SCHEMA
from rangebar_polars.storage.live.journal import encode_columns, encode_frame
from rangebar_polars.storage.live.journal_file import (
    JournalFile,
    JournalSchemaError,
    MissingSpan,
    parse_journal,
)
from repetitions import repeated

DAY = date(2026, 11, 2)
REASONS = ["absent", "sentinel", "invalid"]
INT64 = st.integers(-(2**63), 2**63 - 1)
TIMES = st.integers(-(2**55), 2**55)
FLOATS = st.floats(width=64)

TRADE = st.builds(Trade, TIMES, FLOATS, FLOATS, INT64, INT64, INT64, st.booleans())
SPAN = st.tuples(INT64, INT64, st.sampled_from(REASONS)).map(
    lambda s: MissingSpan(min(s[:2]), max(s[:2]), s[2])
)
RECORD = st.one_of(
    st.tuples(st.sampled_from(["trades", "late"]), st.lists(TRADE, max_size=5)),
    st.tuples(st.just("missing"), st.lists(SPAN, max_size=3)),
    st.tuples(st.just("revision"), st.text(max_size=20)),
    st.tuples(st.just("closed"), st.none()),
)


# The model: what the contract says, with struct and zlib.


def modelled_header(day, number, follows_id, schema=1):
    head = struct.pack("<8sIiIIq28x", b"rbjrnl\r\n", schema, day, number, 0, follows_id)
    return head + struct.pack("<I", zlib.crc32(head))


def modelled(kind, rows, payload):
    head = struct.pack("<B3xII", kind, rows, len(payload))
    return head + struct.pack("<I", zlib.crc32(head + payload)) + payload


def modelled_trades(kind, trades):
    count = len(trades)
    columns = list(zip(*trades, strict=True)) or [()] * 7
    payload = struct.pack(f"<{count}q", *columns[0])
    payload += struct.pack(f"<{count}d{count}d", *columns[1], *columns[2])
    payload += struct.pack(f"<{3 * count}q", *columns[3], *columns[4], *columns[5])
    return modelled(kind, count, payload + bytes(columns[6]))


def modelled_record(kind, value):
    if kind == "missing":
        payload = struct.pack(f"<{len(value)}q", *(span.first for span in value))
        payload += struct.pack(f"<{len(value)}q", *(span.last for span in value))
        return modelled(2, len(value), payload + bytes(REASONS.index(span[2]) for span in value))
    if kind == "revision":
        return modelled(4, len(value.encode()), value.encode())
    if kind == "closed":
        return modelled(5, 0, b"")
    return modelled_trades({"trades": 1, "late": 3}[kind], value)


def encoded(kind, value):
    if kind == "missing":
        return _internal.encode_missing(value)
    if kind == "revision":
        return _internal.encode_record(4, len(value.encode()), value.encode())
    if kind == "closed":
        return _internal.encode_record(5, 0, b"")
    return encode_columns(TradeColumns(value), is_late=kind == "late")


def bits(trades):
    """Return trades with floats that compare by their bits."""
    return [
        (t, struct.pack("<d", p), struct.pack("<d", q), *rest)
        for t, p, q, *rest in map(tuple, trades)
    ]


def of_frame(frame):
    assert frame.schema == TRADES_SCHEMA
    return bits(TradeColumns.of_frame(frame))


def file(number=1, day=DAY):
    return JournalFile(day, number, f"{day}.{number:04}.journal")


def header(number=1, follows_id=7):
    return modelled_header((DAY - date(1970, 1, 1)).days, number, follows_id)


def assert_holds(content, records):
    """Check that a content is that of some records."""
    values = {kind: [v for k, v in records if k == kind] for kind in ("trades", "late", "missing")}
    assert of_frame(content.trades) == bits(t for some in values["trades"] for t in some)
    assert of_frame(content.late) == bits(t for some in values["late"] for t in some)
    assert list(content.missing) == [span for spans in values["missing"] for span in spans]
    assert list(content.revisions) == [value for kind, value in records if kind == "revision"]
    assert content.is_closed == any(kind == "closed" for kind, _ in records)


@given(number=st.integers(0, 2**32 - 1), follows_id=INT64, day=st.integers(-(2**31), 2**31 - 1))
def test_headers_are_those_of_the_model(number, follows_id, day):
    data = _internal.encode_journal_header(day, number, follows_id)
    assert data == modelled_header(day, number, follows_id)
    assert _internal.read_journal_header(data) == (1, day, number, follows_id)


@given(records=st.lists(RECORD, max_size=8), offset=st.integers(0, 10_000))
def test_journals_are_those_of_the_model_and_are_read_up_to_where_they_are_cut(records, offset):
    made = [encoded(*record) for record in records]
    assert made == [modelled_record(*record) for record in records]
    data = header() + b"".join(made)
    content = parse_journal(file(), data)
    assert (content.day, content.number, content.follows_id) == (DAY, 1, 7)
    assert (content.length, content.is_incomplete, content.damage) == (len(data), False, "")
    assert_holds(content, records)
    length = 64 + offset % (len(data) - 63)
    cut = parse_journal(file(), data[:length])
    whole, end = 0, 64
    while whole < len(made) and end + len(made[whole]) <= length:
        end += len(made[whole])
        whole += 1
    assert (cut.length, cut.is_incomplete, cut.damage) == (end, end < length, "")
    assert_holds(cut, records[:whole])


@given(
    records=st.lists(RECORD, min_size=1, max_size=6),
    bit=st.integers(0, 10**6),
)
def test_a_changed_bit_is_damage_and_the_records_before_it_are_read(records, bit):
    made = [modelled_record(*record) for record in records]
    data = bytearray(header() + b"".join(made))
    bit %= 8 * (len(data) - 64)
    data[64 + bit // 8] ^= 1 << bit % 8
    content = parse_journal(file(), bytes(data))
    whole, end = 0, 64
    while end + len(made[whole]) <= 64 + bit // 8:
        end += len(made[whole])
        whole += 1
    assert content.damage
    assert content.length == end
    assert_holds(content, records[:whole])


def test_every_bit_of_a_header_counts():
    data = header() + modelled(5, 0, b"")
    for bit in range(0, 8 * 64, repeated(3, 1)):
        other = bytearray(data)
        other[bit // 8] ^= 1 << bit % 8
        content = parse_journal(file(), bytes(other))
        assert (content.damage, content.length) == ("its header is damaged", 0)
        assert not content.is_closed


def test_a_file_without_a_whole_header_is_none_and_one_of_another_name_is_damaged():
    data = header() + modelled(5, 0, b"")
    assert all(parse_journal(file(), data[:length]) is None for length in range(64))
    assert parse_journal(file(), data[:64]).damage == ""
    assert "number 1" in parse_journal(file(2), data).damage
    assert "2026-11-02" in parse_journal(file(1, date(2026, 11, 3)), data).damage


def test_a_newer_schema_is_an_error_that_names_file_and_remedy():
    data = modelled_header((DAY - date(1970, 1, 1)).days, 1, 7, schema=2) + b"anything"
    with pytest.raises(JournalSchemaError, match="has schema 2; this version reads 1") as found:
        parse_journal(file(), data)
    assert "2026-11-02.0001.journal" in str(found.value)
    assert "newer" in str(found.value)


@given(trades=st.lists(TRADE, max_size=20))
def test_a_frame_gives_the_record_of_its_columns(trades):
    columns = TradeColumns(trades)
    frame = columns.frame()
    assert encode_frame(frame) == encode_columns(columns)
    # Chunks, the order of columns and further columns make no difference.
    parts = pl.concat([frame[:3], frame[3:]], rechunk=False)
    other = parts.select(pl.lit(1).alias("more"), *sorted(frame.columns))
    assert encode_frame(other) == encode_columns(columns)


@pytest.mark.parametrize(
    "change",
    [
        pl.col("timestamp").cast(pl.Datetime("ms", "UTC")),
        pl.col("price").cast(pl.Float32),
        pl.col("agg_trade_id").cast(pl.Int32),
        pl.lit(None, pl.Float64).alias("quantity"),
        pl.col("is_buyer_maker").cast(pl.Int8),
    ],
)
def test_a_frame_of_other_types_is_refused(change):
    frame = TradeColumns([Trade(1, 1.0, 1.0, 1, 1, 1, True)]).frame()
    with pytest.raises(TypeError, match="without nulls"):
        encode_frame(frame.with_columns(change))
    with pytest.raises(TypeError, match="no column `price`"):
        encode_frame(frame.drop("price"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [((0, 0, b""), "kind 0"), ((6, 0, b""), "kind 6"), ((1, 1, b"1" * 48), "49 bytes")],
)
def test_a_record_that_cannot_be_is_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        _internal.encode_record(*arguments)
    with pytest.raises(ValueError, match="unknown reason"):
        _internal.encode_missing([(1, 2, "lost")])
