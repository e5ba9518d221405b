"""The table of sources: nothing else in the package knows one source from another."""

from __future__ import annotations

import ast
import runpy
from dataclasses import fields
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import rangebar_polars as rb
from rangebar_polars.cli import main
from rangebar_polars.config import Settings
from rangebar_polars.day_ticks import DayTicks, Origin
from rangebar_polars.exceptions import CoverageError, MissingColumnError
from rangebar_polars.fetch.registry import FETCHERS
from rangebar_polars.fetch.source import ArchiveProbe, Fetcher
from rangebar_polars.sources import (
    QUOTES,
    SOURCES,
    TRADES,
    IdScheme,
    Market,
    Source,
    canonical_market,
)
from rangebar_polars.storage import TickStorage
from rangebar_polars.validation.continuity import validate_continuity

PACKAGE = Path(rb.__file__).parent
NAMES = set(SOURCES)
MARKETS = {
    name
    for source in SOURCES.values()
    for market in source.markets
    for name in (market.name, market.registry_name)
} - {""}
# A source's own folders may decide what they like; the table is the table.
OWN = {"sources.py", *(f"fetch/{name}" for name in NAMES), *NAMES}


def is_own(path: Path) -> bool:
    place = path.relative_to(PACKAGE)
    return any(place.is_relative_to(own) for own in OWN)


def decided_by(node: ast.AST) -> list[ast.expr]:
    """The expressions that a node compares with others, or looks up by."""
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    if isinstance(node, ast.MatchValue):
        return [node.value]
    if isinstance(node, ast.Dict):
        # Names of classes, such as `Exness`, are not names of sources.
        return [key for key in node.keys if key is not None and ast.unparse(key).islower()]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        method = node.func.attr
        return node.args if method in {"eq", "ne", "is_in", "startswith", "endswith"} else []
    return []


def names_in(expression: ast.expr) -> set[str]:
    if isinstance(expression, (ast.Tuple, ast.List, ast.Set)):
        return set().union(*map(names_in, expression.elts))
    if isinstance(expression, ast.Constant) and isinstance(expression.value, str):
        return {expression.value.lower()}
    return set()


def decisions(code: str) -> list[tuple[int, set[str]]]:
    """Lines in which code decides by the name of a source or a market."""
    return [
        (node.lineno, found)
        for node in ast.walk(ast.parse(code))
        for expression in decided_by(node)
        if (found := names_in(expression) & (NAMES | MARKETS))
    ]


@pytest.mark.parametrize(
    "code",
    [
        'x = source == "exness"',
        'x = "Binance" != source.lower()',
        'x = source in ("exness", "other")',
        'x = pl.col("source").eq("exness")',
        'x = {"binance": 1, "exness": 2}[source]',
        'x = (source, market) == ("binance", "spot")',
        'match source:\n    case "exness":\n        x = 1',
        'x = market in {"um", "cm"}',
    ],
)
def test_a_decision_by_the_name_of_a_source_is_seen(code):
    assert decisions(code)


def test_nothing_decides_by_the_name_of_a_source():
    found = [
        f"{path.relative_to(PACKAGE)}:{line}: {names}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if not is_own(path)
        for line, names in decisions(path.read_text(encoding="utf-8"))
        # The line by which a source registers what fetches it.
        if not (path.relative_to(PACKAGE) == Path("fetch/registry.py") and names <= NAMES)
    ]
    assert found == []


def test_every_source_has_a_fetcher_and_a_folder_of_its_own():
    assert FETCHERS.keys() == SOURCES.keys()
    assert all((PACKAGE / "fetch" / name / "__init__.py").is_file() for name in SOURCES)


def test_every_setting_of_a_source_exists_and_belongs_to_one():
    named = [name for source in SOURCES.values() for name in source.settings]
    assert len(named) == len(set(named))
    assert set(named) <= {setting.name for setting in fields(Settings)}


def test_required_columns_are_columns():
    for source in SOURCES.values():
        assert set(source.ticks.required) <= set(source.ticks.schema)


def test_the_reference_of_sources_is_the_table(root):
    generate = runpy.run_path(str(root / "docs" / "reference" / "generate.py"))
    page = generate["SOURCES_PAGE"].read_text(encoding="utf-8")
    assert page == generate["sources_page"]()


# A source that the package does not have: a row of the table, a fetcher, a line of the registry.

SYMBOL = "ETHUSDT"
FIRST = date(2024, 3, 4)
DAYS = [FIRST + timedelta(days=i) for i in range(3)]
BOURSE = {"source": "bourse", "market": "floor"}


def trades(day: date, first_id: int, count: int = 200) -> pl.DataFrame:
    """Trades of a day whose price swings far enough to make bars."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC)
    ids = range(first_id, first_id + count)
    return pl.DataFrame(
        {
            "timestamp": [start + timedelta(minutes=i) for i in range(count)],
            "price": [3000.0 + 40 * (i % 7) for i in range(count)],
            "quantity": [1.0 + i % 3 for i in range(count)],
            "agg_trade_id": ids,
            "first_trade_id": ids,
            "last_trade_id": ids,
            "is_buyer_maker": [i % 2 == 0 for i in range(count)],
        },
        schema=TRADES.schema,
    )


TICKS = [trades(day, 1 + 200 * i) for i, day in enumerate(DAYS)]


class BourseDays:
    """Days of the made-up source, whose archive is a folder of Parquet files."""

    folder = Path()

    def __init__(self, symbol, market):
        self.place = self.folder / market / symbol

    by_id = None

    def days(self, wanted):
        for day in wanted:
            path = self.place / f"{day}.parquet"
            if path.is_file():
                yield [DayTicks(day, pl.read_parquet(path), Origin("archive", path.as_uri()))]

    def close(self):
        pass


class BourseProbe(ArchiveProbe):
    def __init__(self, symbol, market, now):
        super().__init__(symbol, None)
        self.place = BourseDays.folder / market / symbol

    def has(self, day):
        return (self.place / f"{day}.parquet").is_file()


@pytest.fixture
def bourse(monkeypatch, tmp_path):
    row = Source(
        name="bourse",
        title="The bourse",
        markets=(Market("floor", "shares"), Market("late", "shares", "after-hours")),
        ticks=TRADES,
        ids=IdScheme.CHAIN,
        archive_file="day",
        closes_at_weekends=True,
        settings=(),
    )
    monkeypatch.setitem(SOURCES, "bourse", row)
    monkeypatch.setitem(FETCHERS, "bourse", Fetcher(BourseDays, BourseProbe))
    monkeypatch.setattr(BourseDays, "folder", tmp_path / "archive")
    return row


def test_a_source_of_one_row_has_its_markets(bourse):
    assert canonical_market("Bourse", "After-Hours") == ("bourse", "late")
    for unknown in ("um", ""):
        with pytest.raises(ValueError, match="`floor`, `late`"):
            canonical_market("bourse", unknown)
    with pytest.raises(ValueError, match="`binance`, `exness`, `bourse`"):
        canonical_market("the bourse", "floor")


def test_ticks_of_a_source_of_one_row_are_written_covered_and_scanned(bourse, tmp_path):
    storage = TickStorage(tmp_path)
    storage.write_ticks(SYMBOL, pl.concat([TICKS[0], TICKS[1], TICKS[2][10:]]), **BOURSE)
    assert storage.list_symbols(**BOURSE) == [SYMBOL]
    assert storage.list_symbols() == []
    covered = storage.coverage(SYMBOL, DAYS[0], DAYS[2], **BOURSE)
    assert covered["state"].to_list() == ["given"] * 3
    assert covered["missing_before"].to_list() == [0, 0, 10]
    with pytest.raises(CoverageError, match=r"ETHUSDT \(bourse floor\)"):
        rb.scan_ticks(SYMBOL, DAYS[0], DAYS[2], cache_dir=tmp_path, **BOURSE)
    storage.write_ticks(SYMBOL, TICKS[2][:10], **BOURSE)
    plan = rb.scan_ticks(SYMBOL, DAYS[0], DAYS[2], cache_dir=tmp_path, **BOURSE)
    assert plan.collect_schema() == TRADES.schema
    assert_frame_equal(plan.collect(), pl.concat(TICKS))
    files = storage.verify(source="bourse")
    assert files.filter(pl.col("state") == "ok")["day"].to_list() == DAYS


def test_days_of_a_source_of_one_row_are_fetched_and_their_bars_stored(bourse, tmp_path):
    archive = tmp_path / "archive" / "floor" / SYMBOL
    archive.mkdir(parents=True)
    for day, ticks in zip(DAYS, TICKS, strict=True):
        ticks.write_parquet(archive / f"{day}.parquet")
    where = {"cache_dir": tmp_path / "cache", **BOURSE}
    report = rb.fetch_ticks(SYMBOL, DAYS[0], DAYS[2], verbose=False, **where)
    assert report.fetched == DAYS
    rb.populate_cache_resumable(SYMBOL, str(DAYS[0]), str(DAYS[2]), verbose=False, **where)
    bars = rb.scan_range_bars(SYMBOL, DAYS[0], DAYS[2], **where).collect()
    direct = pl.concat(TICKS).rangebar.bars(250, reset="year")
    assert bars.height == direct.height > 10
    assert bars["close_time"].to_list() == direct["close_time"].to_list()
    assert validate_continuity(bars, source="bourse")


def test_quotes_of_a_source_of_one_row_are_taken_by_their_kind(bourse, monkeypatch, tmp_path):
    row = Source("fixing", "Fixing", (Market("spot"),), QUOTES, IdScheme.MONTHLY, "month", True, ())
    monkeypatch.setitem(SOURCES, "fixing", row)
    storage = TickStorage(tmp_path)
    quotes = pl.DataFrame(
        {
            "timestamp": [datetime(2024, 3, 4, 10, i, tzinfo=UTC) for i in range(3)],
            "bid": [1.0, 1.1, 1.2],
            "ask": [1.2, 1.3, 1.4],
        }
    )
    with pytest.raises(MissingColumnError, match="number the quotes of a month"):
        storage.write_ticks("EURUSD", quotes, source="fixing")
    numbered = quotes.with_columns(agg_trade_id=pl.int_range(3) + 202403 * 10**8)
    storage.write_ticks("EURUSD", numbered, source="fixing")
    ticks = storage.get_ticks("EURUSD", FIRST, FIRST, source="fixing")
    assert ticks.schema == QUOTES.schema
    assert ticks["price"].to_list() == [1.1, 1.2, 1.3]


def test_the_help_of_the_commands_names_the_sources_of_the_table(bourse, capsys):
    with pytest.raises(SystemExit):
        main(["ticks", "list", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "binance, exness or bourse, or one of your own" in text
    assert "spot, um, cm, floor or late, or one of your own source" in text
