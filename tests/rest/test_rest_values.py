"""What no trade is: named, never silently wrong; and pages that an exchange has really given."""

from __future__ import annotations

import json
from datetime import date, timedelta

import pytest
from rest_stand import (
    DAY_US,
    HOUR_US,
    START_US,
    check_each_id_is_in_one,
    frame_of,
    tape_of,
    trade,
)

from rangebar_polars.exceptions import (
    CorruptSourceError,
    TickDataError,
    TickOrderError,
)
from rangebar_polars.fetch.binance.rest import BinanceRest

DAY = date(2024, 3, 5)


def test_two_contents_of_one_id_in_a_page_are_an_error(stand, rest):
    stand.tape = [*tape_of(5), trade(1002, START_US + 500, p="1.00"), *tape_of(5, 1005)]
    with pytest.raises(TickDataError, match="agg_trade_id `1002`"):
        rest.fetch_ids("BTCUSDT", 1000, 1009)


def test_two_contents_of_one_id_in_two_pages_are_an_error(stand, rest):
    stand.tape = tape_of(20) + tape_of(1, 1020, START_US + DAY_US)
    stand.page_rows = 8

    def mangle(page, query):
        other = stand.tape[7] | {"p": "1.00"}
        return [other, *page] if query.get("fromId") == "1008" else page

    stand.mangle = mangle
    with pytest.raises(TickDataError, match="agg_trade_id `1007`"):
        rest.fetch_day("BTCUSDT", DAY)


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"p": "0.123456789"}, "more than 8 decimals"),
        ({"q": "0.000000001"}, "more than 8 decimals"),
        ({"p": "0.00000000"}, "a price of 0"),
        ({"p": "-1.00"}, "not a decimal number of 0 or more"),
        ({"q": "-1.00"}, "not a decimal number of 0 or more"),
        ({"q": "nan"}, "not a decimal number of 0 or more"),
        ({"f": 9, "l": 8}, "`9` to `8`"),
        ({"p": "0.00", "f": -1, "l": 8}, "a price of 0"),
    ],
)
def test_a_value_that_no_trade_has_is_an_error_that_names_the_trade(stand, rest, other, words):
    stand.tape = [*tape_of(5), trade(1005, START_US + DAY_US)]
    stand.tape[3] |= other
    with pytest.raises(TickDataError, match="`1003`") as caught:
        rest.fetch_day("BTCUSDT", DAY)
    assert words in str(caught.value)


def test_text_becomes_the_nearest_double(stand, rest):
    texts = ["0.1", "61837.63000000", "0.00000001", "123456789.12345678", "92233720368.54775807"]
    stand.tape = [trade(n, START_US + n, p=text, q=text) for n, text in enumerate(texts)]
    ticks, _ = rest.fetch_ids("BTCUSDT", 0, 4)
    assert ticks["price"].to_list() == ticks["quantity"].to_list() == [float(t) for t in texts]


def test_time_that_steps_back_a_little_is_raised_and_counted(stand, rest):
    steps = [0, 900_000, 100_000, 1_200_000]
    stand.tape = [trade(k, START_US + step) for k, step in enumerate(steps)]
    found = rest.fetch_day("BTCUSDT", DAY)
    raised = found.ticks["timestamp"].dt.epoch("us") - START_US
    assert raised.to_list() == [0, 900_000, 900_000, 1_200_000]
    assert found.origin.raised == 1


def test_trades_that_step_back_over_midnight_go_with_those_before_them_by_id(stand, rest):
    steps = [-500_000, 10, -100, 20, -300_000, 30]
    stand.tape = [trade(50 + k, START_US + step) for k, step in enumerate(steps)]
    stand.tape += [trade(56, START_US + DAY_US)]
    here = rest.fetch_day("BTCUSDT", DAY).ticks
    before = rest.fetch_day("BTCUSDT", DAY - timedelta(days=1)).ticks
    assert before["agg_trade_id"].to_list() == [50]
    assert here["agg_trade_id"].to_list() == [51, 52, 53, 54, 55]
    assert (here["timestamp"].dt.date() == DAY).all()


def test_a_day_begins_with_its_first_trade_though_a_page_of_the_day_before_follows(stand, rest):
    late = tape_of(1500, 5001, START_US - 600_000, 100)
    stand.tape = [trade(4999, START_US - HOUR_US), trade(5000, START_US + 10), *late]
    stand.tape += [trade(6501, START_US + 20), trade(6502, START_US + DAY_US)]
    stand.mangle = lambda page, query: stand.tape[-2:-1] if "startTime" in query else page
    found = rest.fetch_day("BTCUSDT", DAY)
    assert found.ticks["agg_trade_id"].to_list() == list(range(5000, 6502))
    assert found.origin.raised == 1500


@pytest.mark.parametrize("at", [1, 4, 7])
@pytest.mark.parametrize("page_rows", [4, 5, 1000])
@pytest.mark.parametrize("jump_us", [2 * DAY_US, 2_000_000, -2_000_000, -2 * DAY_US])
def test_a_time_that_is_out_of_place_is_an_error_and_never_half_a_day(
    stand, rest, at, page_rows, jump_us
):
    stand.tape = tape_of(9, 1000, START_US + HOUR_US) + tape_of(1, 1009, START_US + DAY_US)
    stand.tape[at]["T"] += jump_us
    stand.page_rows = page_rows
    stand.mangle = lambda page, query: stand.tape[:1] if "startTime" in query else page
    with pytest.raises(TickOrderError, match=f"`{1000 + at}`|`{1001 + at}`"):
        rest.fetch_day("BTCUSDT", DAY)


# ---- pages that an exchange has really given


def recorded(shared, name):
    pages = json.loads((shared / "data" / "binance_rest" / name).read_text(encoding="utf-8"))["GET"]
    symbol = "BTCUSDT" if "spot" in name else "LTCUSDT"
    return [page["data"] for page in pages if f"symbol={symbol}" in page["queryString"]]


@pytest.mark.parametrize(
    "name", ["gct_spot_api_v3_aggTrades.json", "gct_um_fapi_v1_aggTrades.json"]
)
def test_recorded_pages_are_read_as_they_stand_or_refused_by_trade(stand, clock, shared, name):
    market = "spot" if "spot" in name else "um"
    refused = 0
    for page in recorded(shared, name):
        # The recording is in milliseconds, and so it is given: the unit is seen in the values.
        stand.body = lambda query, fine, page=page: json.dumps(
            [row for row in page if row["a"] >= int(query.get("fromId", page[-1]["a"]))]
        ).encode()
        with BinanceRest(market, url=stand.url, budget=clock.budget()) as rest:
            if "m" not in page[0]:
                refused += 1
                with pytest.raises(
                    CorruptSourceError, match=f"no `m` in row 0 .trade `{page[-1]['a']}`"
                ):
                    rest.fetch_ids("BTCUSDT", page[0]["a"], page[-1]["a"])
                continue
            ticks, absent = rest.fetch_ids("BTCUSDT", page[0]["a"], page[-1]["a"])
        assert ticks.equals(frame_of([row | {"T": row["T"] * 1000} for row in page]))
        check_each_id_is_in_one(ticks, absent, page[0]["a"], page[-1]["a"])
    assert refused == (4 if market == "spot" else 0)


def test_recorded_pages_with_other_times_for_one_trade_are_refused(stand, rest, shared):
    pages = recorded(shared, "gct_spot_api_v3_aggTrades.json")
    doctored = [[{k or "m": v for k, v in row.items()} for row in page] for page in pages]
    first, second = (next(p for p in doctored if p[0]["a"] == n) for n in (303004095, 303004096))
    assert first[-1]["a"] == second[0]["a"]
    true = next(p for p in doctored if len(p) == 5)
    assert true[0]["a"] == 303004096
    by_id = {"303004095": first, "303004097": true}

    def body(query, *, fine):
        return json.dumps(by_id.get(query.get("fromId"), true[-1:])).encode()

    stand.body = body
    with pytest.raises(TickDataError, match="`303004096`"):
        rest.fetch_ids("BTCUSDT", 303004095, 303004100)
