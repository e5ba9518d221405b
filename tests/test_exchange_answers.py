"""The exchange in a box itself: REST and months of quotes."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from exchange import Exchange, Limits, QuoteTape, Tape
from exchange.client import ask, page
from rangebar_polars.sources import QUOTES_SCHEMA, TRADES_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = "2024-12-31"
PAGE = "/api/v3/aggTrades?symbol=BTCUSDT"


@pytest.fixture(scope="module")
def tape() -> Tape:
    return Tape.generate(per_day=800, seed=3)


@pytest.fixture
def box(tape: Tape) -> Iterator[Exchange]:
    with Exchange(tape) as opened:
        yield opened


def future(market: str = "um") -> Tape:
    symbol = {"um": "BTCUSDT", "cm": "BTCUSD_PERP"}[market]
    return Tape.generate(
        symbol, market=market, per_day=500, price_digits=1, quantity_digits=3, seed=5
    )


# REST


def rest_rows(tape: Tape, rows: list[dict], unit: str) -> pl.DataFrame:
    time_column = pl.from_epoch(pl.Series([row["T"] for row in rows], dtype=pl.Int64), unit)
    return pl.DataFrame(
        {
            "timestamp": time_column.cast(pl.Datetime("us")).dt.replace_time_zone("UTC"),
            "price": [float(row["p"]) for row in rows],
            "quantity": [float(row["q"]) for row in rows],
            "agg_trade_id": [row["a"] for row in rows],
            "first_trade_id": [row["f"] for row in rows],
            "last_trade_id": [row["l"] for row in rows],
            "is_buyer_maker": [row["m"] for row in rows],
        },
        schema=TRADES_SCHEMA,
    )


def pages_by_id(box: Exchange, first_id: int, **headers: str) -> list[dict]:
    rows: list[dict] = []
    while got := page(box, f"{PAGE}&fromId={first_id}&limit=1000", **headers):
        rows += got
        first_id = got[-1]["a"] + 1
    return rows


@pytest.mark.parametrize("unit", ["us", "ms"])
def test_pages_by_id_give_the_tape(box: Exchange, tape: Tape, unit: str) -> None:
    headers = {"X_MBX_TIME_UNIT": "MICROSECOND"} if unit == "us" else {}
    rows = pages_by_id(box, 0, **headers)
    time_column = pl.col("timestamp")
    truth = tape.ticks.with_columns(time_column if unit == "us" else time_column.dt.truncate("1ms"))
    assert_frame_equal(rest_rows(tape, rows, unit), truth)


def test_pages_by_time_include_both_ends(box: Exchange, tape: Tape) -> None:
    # A burst of the last day, whose times are no whole milliseconds.
    first = tape.day("2025-01-02")["timestamp"].dt.epoch("ms").mode().max()
    for start, end in ((first, first), (first, first + 60_000), (first * 1_000, first * 1_000 + 5)):
        rows = page(box, f"{PAGE}&startTime={start}&endTime={end}&limit=1000")
        scale = 1 if start > 10**14 else 1_000
        low, high = start * scale, end * scale + (scale - 1)
        truth = tape.ticks.filter(pl.col("timestamp").dt.epoch("us").is_between(low, high))
        assert [row["a"] for row in rows] == truth["agg_trade_id"].head(1_000).to_list()
        assert rows


def test_without_a_begin_a_page_is_the_newest(box: Exchange, tape: Tape) -> None:
    ids = tape.ticks["agg_trade_id"]
    assert [row["a"] for row in page(box, f"{PAGE}&limit=3")] == ids.tail(3).to_list()
    assert len(page(box, PAGE)) == 500
    assert len(page(box, f"{PAGE}&limit=5000")) == 1_000
    _first, last = tape.id_span(DAY)
    midnight = int(datetime(2025, 1, 1, tzinfo=UTC).timestamp() * 1_000)
    rows = page(box, f"{PAGE}&endTime={midnight - 1}&limit=2")
    assert [row["a"] for row in rows] == [last - 1, last]
    assert page(box, f"{PAGE}&fromId={ids[-1] + 1}") == []


def test_what_is_later_than_now_has_not_happened(box: Exchange, tape: Tape) -> None:
    box.now = "2025-01-01"
    got = ask(box, "/api/v3/time")
    assert json.loads(got.body) == {"serverTime": 1_735_689_600_000}
    assert json.loads(ask(box, "/api/v3/time", **{"X-MBX-TIME-UNIT": "MICROSECOND"}).body) == {
        "serverTime": 1_735_689_600_000_000
    }
    head = tape.ticks.filter(pl.col("timestamp") <= datetime(2025, 1, 1, tzinfo=UTC))
    assert page(box, f"{PAGE}&limit=1")[0]["a"] == head["agg_trade_id"][-1]
    assert pages_by_id(box, 0)[-1]["a"] == head["agg_trade_id"][-1]
    box.clock.advance(timedelta(days=1))
    assert page(box, f"{PAGE}&limit=1")[0]["a"] > head["agg_trade_id"][-1]


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("symbol=NOSUCH", -1121),
        ("limit=5", -1102),
        ("symbol=BTCUSDT&fromId=x", -1100),
        ("symbol=BTCUSDT&fromId=-4", -1100),
        ("symbol=BTCUSDT&limit=0", -1130),
        ("symbol=BTCUSDT&fromId=1&startTime=5", -1128),
        ("symbol=BTCUSDT&from=1", -1104),
    ],
)
def test_bad_parameters_have_the_codes_of_the_exchange(
    box: Exchange, query: str, code: int
) -> None:
    got = ask(box, f"/api/v3/aggTrades?{query}")
    assert (got.status, json.loads(got.body)["code"]) == (400, code)


def test_futures_have_their_own_paths_and_fields() -> None:
    um, cm = future("um"), future("cm")
    with Exchange(um, cm) as box:
        for base, mine in (("fapi", um), ("dapi", cm)):
            target = f"/{base}/v1/aggTrades?symbol={mine.symbol}"
            rows = page(box, f"{target}&limit=1000&fromId={mine.id_span(DAY)[0]}")
            assert "M" not in rows[0]
            assert_frame_equal(
                rest_rows(mine, rows, "ms"), mine.ticks.slice(mine.rows_before(DAY), 1_000)
            )
            late = ask(box, f"{target}&startTime=1735600000000&endTime=1735604000000")
            assert json.loads(late.body)["code"] == -1127
        assert ask(box, PAGE).status == 400
        assert ask(box, "/fapi/v1/none").status == 404


def test_too_many_requests_are_refused_and_then_banned(tape: Tape) -> None:
    limits = Limits(weight=12, window_s=50.0, patience=2, ban_s=90.0)
    with Exchange(tape, limits=limits) as box:
        got = [ask(box, f"{PAGE}&limit=1") for _ in range(7)]
        assert [one.status for one in got] == [200, 200, 200, 429, 429, 418, 418]
        assert [one.headers.get("X-MBX-USED-WEIGHT-1M") for one in got[:4]] == [
            "4",
            "8",
            "12",
            "16",
        ]
        assert 45 <= int(got[3].headers["Retry-After"]) <= 50
        assert 85 <= int(got[6].headers["Retry-After"]) <= 90
        # Files have no weight.
        assert ask(box, box.path(DAY)).status == 200


def test_a_window_of_weight_ends() -> None:
    limits = Limits(weight=4, window_s=0.2)
    assert limits.refusal("/api/v3", 4) is None
    refused = limits.refusal("/api/v3", 4)
    assert refused is not None
    assert refused.status == 429
    assert limits.refusal("/fapi/v1", 4) is None
    limits._began["/api/v3"] -= 0.2
    assert limits.refusal("/api/v3", 4) is None


# Quotes


def quotes_in(content: bytes) -> list[list[str]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        lines = archive.read(archive.namelist()[0]).decode().splitlines()
    assert lines[0] == '"Exness","Symbol","Timestamp","Bid","Ask"'
    return [line.replace('"', "").split(",") for line in lines[1:]]


@pytest.mark.parametrize("between", [" ", "T"])
def test_a_month_of_quotes_is_served_as_exness_does(between: str) -> None:
    fx = QuoteTape.generate(per_day=200)
    path = "/ticks/EURUSD_Raw_Spread/2024/12/Exness_EURUSD_Raw_Spread_2024_12.zip"
    truth = fx.month(2024, 12)
    with Exchange(fx, between=between) as box:
        rows = quotes_in(ask(box, path).body)
        assert ask(box, path + ".CHECKSUM").status == 404
    assert [float(row[3]) for row in rows] == truth["bid"].to_list()
    assert [float(row[4]) for row in rows] == truth["ask"].to_list()
    stamps = [datetime.fromisoformat(row[2]) for row in rows]
    assert stamps == truth["timestamp"].to_list()
    assert {row[2][10] for row in rows} == {between}


def test_quotes_rest_at_weekends_and_count_the_rows_of_a_month() -> None:
    fx = QuoteTape.generate(per_day=500)
    assert fx.ticks.schema == QUOTES_SCHEMA
    assert fx.ticks["timestamp"].is_sorted()
    breaks = fx.ticks["timestamp"].diff().drop_nulls()
    assert (breaks > timedelta(hours=40)).sum() == 8
    assert fx.day("2024-12-07").height == 0
    assert (fx.ticks["ask"] >= fx.ticks["bid"]).all()
    assert 0.8 < (fx.ticks["ask"] == fx.ticks["bid"]).mean() < 1
    january = fx.month(2025, 1)["agg_trade_id"]
    assert january.to_list() == [202501 * 10**8 + n for n in range(len(january))]


def test_a_running_month_of_quotes_grows_with_the_clock() -> None:
    fx = QuoteTape.generate(per_day=200)
    path = "/ticks/EURUSD_Raw_Spread/2025/01/Exness_EURUSD_Raw_Spread_2025_01.zip"
    with Exchange(fx, now="2025-01-01") as box:
        assert ask(box, path).status == 404
        seen = []
        for now in ("2025-01-02", "2025-01-17", "2025-02-01"):
            box.now = now
            got = ask(box, path)
            rows = quotes_in(got.body)
            assert len(rows) == fx.between("2025-01-01", now).height
            seen.append(got.headers["ETag"])
        assert len(set(seen)) == 3
