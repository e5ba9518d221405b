"""Reports in a notebook and in a shell: a few lines, and HTML that is escaped."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import polars as pl
import pytest

import rangebar_polars as rb
from rangebar_polars.bar_series.identity import BarSpec
from rangebar_polars.ingest.id_gap import Hole
from rangebar_polars.ingest.newest_day import Clamp
from rangebar_polars.ingest.report import FetchReport
from rangebar_polars.interop.report_html import facts_html, lines_html, rows_html
from rangebar_polars.populate.precompute import PrecomputeResult
from rangebar_polars.populate.report import PopulateReport, SeriesReport
from rangebar_polars.storage.days.report import WriteReport
from rangebar_polars.validation.continuity import validate_continuity
from rangebar_polars.validation.tier1 import validate_tier1

if TYPE_CHECKING:
    from pathlib import Path

YEAR = [date(2024, 1, 1) + timedelta(days=offset) for offset in range(366)]
HOSTILE = '<script>alert("&")</script>'
NAME = "BTC<b>USDT"


def series_report(threshold: int = 250, reason: str = "the archive has no file") -> SeriesReport:
    series = BarSpec.of("BTCUSDT", threshold, reset="year").series(YEAR[0])
    hole = Hole(YEAR[200], reason)
    counts = {
        "published": 200,
        "bars": 1_234_567,
        "absent": tuple(YEAR[:150]),
        "stale": tuple(YEAR),
    }
    return SeriesReport(series, is_new=True, planned=366, kept=0, hole=hole, **counts)


def population(series: int = 1) -> PopulateReport:
    clamp = Clamp(YEAR[-1], YEAR[-1] + timedelta(days=9), HOSTILE)
    every = [series_report(threshold, HOSTILE) for threshold in range(250, 250 + series)]
    return PopulateReport(every, clamps={"BTCUSDT": clamp})


def precomputed() -> PrecomputeResult:
    bars = rb.sample_ticks().rangebar.bars(100, features="microstructure")
    return PrecomputeResult(
        *("BTCUSDT", 250, YEAR[0], YEAR[-1], 1_000_000, 50_000_000, 75.25, population(3)),
        continuity=validate_continuity(bars),
        tier1=validate_tier1(bars),
    )


REPORTS = {
    "fetch": FetchReport(NAME, fetched=YEAR, kept=YEAR, tail=YEAR[-1:], rows=1_234_567),
    "write": WriteReport(NAME, days=tuple(YEAR), rows_added=1_234_567, unchanged=tuple(YEAR)),
    "series": series_report(),
    "population": population(2),
    "long population": population(300),
    "precompute": precomputed(),
}
# Dates that the text of each report names: the ends of spans and single days, never a list.
DATES = {
    "fetch": 0,
    "write": 2,
    "series": 7,
    "population": 16,
    "long population": 44,
    "precompute": 2,
}
# What the HTML of each report must show, escaped.
NAMED = {
    "fetch": NAME,
    "write": NAME,
    "population": HOSTILE,
    "long population": HOSTILE,
    "precompute": "BTCUSDT",
}


@pytest.mark.parametrize("name", REPORTS)
def test_a_report_is_a_few_lines_and_names_the_ends_of_spans_alone(name: str) -> None:
    text = repr(REPORTS[name])
    assert text.startswith(f"<{type(REPORTS[name]).__name__}")
    assert len(text.splitlines()) <= 10
    assert len(re.findall(r"\d{4}-\d\d-\d\d", text)) == DATES[name]
    assert len(text) < 3000
    assert "datetime" not in text
    assert "1,234,567" in text or name == "precompute"


@pytest.mark.parametrize("name", NAMED)
def test_the_html_of_a_report_is_escaped_and_short(name: str) -> None:
    text = REPORTS[name]._repr_html_()
    assert text.count("<table>") == text.count("</table>") >= 1
    assert "<script" not in text
    assert "<b>" not in text
    assert len(text) < 10_000
    plain = html.unescape(re.sub("<[^>]+>", " ", text))
    assert "1,234,567" in plain
    assert NAMED[name] in html.unescape(text)


def test_what_a_report_says() -> None:
    assert repr(REPORTS["fetch"]) == (
        "<FetchReport BTC<b>USDT: 366 days fetched (1,234,567 ticks), 366 already stored, "
        "1 still growing>"
    )
    assert str(REPORTS["write"]) == (
        "BTC<b>USDT, 366 days (2024-01-01 to 2024-12-31): 1,234,567 rows added, 366 days unchanged"
    )
    assert "and 294 more; `.frame()` has all of them" in repr(REPORTS["long population"])
    assert "tier 1 passed, 0 breaks in the chain of ids>" in repr(REPORTS["precompute"])
    assert repr(PopulateReport()) == "<PopulateReport: 0 bars written, 0 series>"


def test_a_count_of_one_is_singular() -> None:
    bars = rb.sample_ticks().rangebar.bars(100, features="microstructure")
    half = bars.height // 2
    torn = pl.concat([bars[:half], bars[half + 1 :]])
    result = replace(precomputed(), continuity=validate_continuity(torn))
    assert ", 1 break in the chain of ids>" in repr(result)
    assert f"\n{bars.height - 1:,} bars: 1 break\n" in str(result)
    few = replace(result, total_bars=1, total_ticks=1)
    assert ": 1 bar of 1 tick, " in str(few)
    assert str(FetchReport("A", fetched=YEAR[:1], rows=1)).startswith("A: 1 day fetched (1 tick), ")


def test_the_table_of_a_long_population_says_how_many_rows_are_left_out() -> None:
    text = REPORTS["long population"]._repr_html_()
    assert text.count("<tr>") == 1 + 20 + 1
    assert "and 280 more" in text
    assert '<td colspan="15">' in text


def test_a_write_reports_itself(tmp_path: Path) -> None:
    ticks = rb.sample_ticks()
    report = rb.TickStorage(tmp_path).write_ticks("BTCUSDT", ticks)
    assert repr(report) == ("<WriteReport BTCUSDT, 1 day (2024-08-08): 49,505 rows added>")
    again = rb.TickStorage(tmp_path).write_ticks("BTCUSDT", ticks)
    assert "0 rows added, 49,505 rows stored already" in str(again)
    assert "<td>49,505</td>" in report._repr_html_()


def test_control_characters_and_markup_are_no_part_of_the_html() -> None:
    spoiled = "\x1b[2J<i>"
    for text in (
        facts_html(spoiled, [(spoiled, spoiled)]),
        rows_html([spoiled], [[spoiled], [None]]),
        lines_html(f"{spoiled}\n{spoiled}"),
    ):
        assert "<i>" not in text
        assert "\x1b" not in text
        assert "&lt;i&gt;" in text
    assert lines_html("") == ""
