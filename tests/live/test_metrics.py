"""Metrics in the text format of Prometheus, parsed by its own parser."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from live.boards import LIVE, PROCESS, live_status, serving
from rangebar_polars.live.health.board import LiveCounts, StatusBoard
from rangebar_polars.live.health.metrics import METRICS, PREFIX, LiveMetrics
from rangebar_polars.live.health.status import ConsumerStatus, LiveStatus, RestStatus
from rangebar_polars.live.protocol.states import Reason, State
from rangebar_polars.live.symbol import SymbolCounters

BTC = {"symbol": "BTCUSDT", "market": "spot"}
COUNTERS = {
    "trades": {"symbol", "market"},
    "duplicates": {"symbol", "market"},
    "gaps": {"symbol", "market"},
    "ids_backfilled": {"symbol", "market"},
    "ids_missing": {"symbol", "market"},
    "messages_rejected": {"symbol", "market"},
    "bars": {"symbol", "market", "threshold"},
    "reconnects": {"market", "reason"},
    "rest_requests": {"status"},
    "consumer_failures": {"consumer"},
    "notifications": {"service", "outcome"},
}
GAUGES = {
    "state": {"symbol", "market", "state"},
    "applied_id": {"symbol", "market"},
    "lag_seconds": {"symbol", "market"},
    "last_trade_age_seconds": {"symbol", "market"},
    "gaps_open": {"symbol", "market"},
    "journal_bytes": {"symbol", "market"},
    "unsynced_seconds": {"symbol", "market"},
    "pending_bars": {"consumer"},
    "unfinalized_days": {"symbol", "market"},
    "disk_free_bytes": set(),
    "loop_lag_seconds": set(),
    "rest_used_weight": set(),
    "build_info": {"version"},
}


def counts() -> LiveCounts:
    """Return numbers of two symbols, of which every one differs."""
    btc = SymbolCounters(1, 2, 3, 4, 5, 6, 7, bars={250: 8, 500: 9})
    return LiveCounts(
        symbols={("BTCUSDT", "spot"): btc, ("ETHUSDT", "spot"): SymbolCounters(trades=10)},
        reconnects={("spot", "closed"): 11, ("spot", "silent"): 12},
        rest_requests={"200": 13, "429": 14},
        consumer_failures={"default": 15},
        notifications={("telegram", "sent"): 16},
    )


def status() -> LiveStatus:
    eth = replace(LIVE, symbol="ETHUSDT", state=State.DEGRADED, reason=Reason.GAP)
    btc = replace(
        LIVE,
        applied_id=6_543_210_987,
        lag_s=0.25,
        last_trade_age_s=1.5,
        gaps_open=2,
        journal_bytes=49_064,
        unsynced_s=0.5,
        unfinalized_days=3,
    )
    return replace(
        live_status(btc, eth),
        process=replace(PROCESS, disk_free_bytes=2**40),
        consumers=[ConsumerStatus(name="default", kind="ndjson", pending=21)],
        rest=RestStatus(used_weight=22),
    )


def samples(text: bytes) -> dict[tuple[str, frozenset], float]:
    """Return the samples by name and labels, after checking the text as a whole."""
    lines = text.decode().splitlines()
    for word in ("HELP", "TYPE"):
        named = Counter(line.split()[2] for line in lines if line.startswith(f"# {word} "))
        assert set(named.values()) == {1}
        assert len(named) == len(METRICS)
    found = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation
        assert family.name.startswith(PREFIX)
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


def scraped(status_: LiveStatus, counts_=LiveCounts) -> dict[tuple[str, frozenset], float]:
    return samples(LiveMetrics(StatusBoard(status_, counts_)).text())


def value(found: dict, name: str, **labels: str) -> float:
    return found[PREFIX + name, frozenset(labels.items())]


def test_the_metrics_have_the_names_kinds_and_labels_of_the_contract() -> None:
    text = LiveMetrics(StatusBoard(status(), counts)).text().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {PREFIX + name for name in COUNTERS | GAUGES}
    for names, kind, suffix in ((COUNTERS, "counter", "_total"), (GAUGES, "gauge", "")):
        for name, labels in names.items():
            family = families[PREFIX + name]
            assert family.type == kind
            assert family.samples, name
            assert {sample.name for sample in family.samples} == {PREFIX + name + suffix}
            assert {frozenset(sample.labels) for sample in family.samples} == {frozenset(labels)}


def test_every_value_stands_at_its_metric() -> None:
    found = scraped(status(), counts)
    names = ["trades", "duplicates", "gaps", "ids_backfilled", "ids_missing", "messages_rejected"]
    assert [value(found, f"{name}_total", **BTC) for name in names] == [1, 2, 3, 4, 5, 6]
    assert value(found, "bars_total", **BTC, threshold="250") == 8
    assert value(found, "bars_total", **BTC, threshold="500") == 9
    assert value(found, "trades_total", symbol="ETHUSDT", market="spot") == 10
    assert value(found, "reconnects_total", market="spot", reason="closed") == 11
    assert value(found, "reconnects_total", market="spot", reason="silent") == 12
    assert value(found, "rest_requests_total", status="200") == 13
    assert value(found, "rest_requests_total", status="429") == 14
    assert value(found, "consumer_failures_total", consumer="default") == 15
    assert value(found, "notifications_total", service="telegram", outcome="sent") == 16
    assert value(found, "applied_id", **BTC) == 6_543_210_987
    assert value(found, "lag_seconds", **BTC) == 0.25
    assert value(found, "last_trade_age_seconds", **BTC) == 1.5
    assert value(found, "gaps_open", **BTC) == 2
    assert value(found, "journal_bytes", **BTC) == 49_064
    assert value(found, "unsynced_seconds", **BTC) == 0.5
    assert value(found, "unfinalized_days", **BTC) == 3
    assert value(found, "pending_bars", consumer="default") == 21
    assert value(found, "rest_used_weight") == 22
    assert value(found, "disk_free_bytes") == 2**40
    assert value(found, "build_info", version="0.1.0") == 1


def test_one_of_all_states_is_the_present_one() -> None:
    found = scraped(status())
    eth = {"symbol": "ETHUSDT", "market": "spot"}
    values = {state.value: value(found, "state", **eth, state=state.value) for state in State}
    assert values == {**dict.fromkeys(values, 0), "degraded": 1}


def test_what_is_not_known_has_no_sample() -> None:
    found = scraped(live_status())
    names = {name for name, _ in found}
    assert PREFIX + "applied_id" not in names
    assert PREFIX + "lag_seconds" not in names
    assert PREFIX + "gaps_open" in names


def test_unusual_labels_and_numbers_are_written_so_that_the_parser_reads_them() -> None:
    strange = 'a"b\\c\nd é'
    symbol = replace(LIVE, symbol=strange, lag_s=math.inf, last_trade_age_s=-1e-9)
    found = scraped(live_status(symbol), lambda: LiveCounts(consumer_failures={strange: 1}))
    assert value(found, "lag_seconds", symbol=strange, market="spot") == math.inf
    assert value(found, "last_trade_age_seconds", symbol=strange, market="spot") == -1e-9
    assert value(found, "consumer_failures_total", consumer=strange) == 1


def test_a_sidecar_that_has_nothing_yet_has_well_formed_metrics() -> None:
    found = scraped(LiveStatus(process=PROCESS))
    assert {name for name, _ in found} == {
        PREFIX + name for name in ("loop_lag_seconds", "rest_used_weight", "build_info")
    }


def test_each_scrape_reads_the_numbers_of_then() -> None:
    counters = SymbolCounters()
    board = StatusBoard(live_status(), lambda: LiveCounts(symbols={("BTCUSDT", "spot"): counters}))
    metrics = LiveMetrics(board)
    assert value(samples(metrics.text()), "trades_total", **BTC) == 0
    counters.trades += 5
    counters.bars[250] = 1
    found = samples(metrics.text())
    assert value(found, "trades_total", **BTC) == 5
    assert value(found, "bars_total", **BTC, threshold="250") == 1


def test_counters_never_fall_when_what_counts_begins_again() -> None:
    counted = {"default": 7}
    metrics = LiveMetrics(StatusBoard(live_status(), lambda: LiveCounts(consumer_failures=counted)))
    seen = []
    for number in (7, 9, 2, 2, 3, 0, 1):
        counted["default"] = number
        found = samples(metrics.text())
        seen.append(value(found, "consumer_failures_total", consumer="default"))
    assert seen == [7, 9, 11, 11, 12, 12, 13]


def test_scrapes_in_parallel_with_the_loop_are_whole_and_never_fall() -> None:
    counters = SymbolCounters()
    key = ("BTCUSDT", "spot")

    def count(rounds: int) -> None:
        # What the loop does meanwhile: it counts, and meets new thresholds.
        for number in range(rounds):
            counters.trades += 1
            counters.bars[number % 977] = counters.bars.get(number % 977, 0) + 1

    with serving(counts=lambda: LiveCounts(symbols={key: counters})) as served:
        with ThreadPoolExecutor(5) as pool:
            counting = pool.submit(count, 50_000)

            def scrape(_: int) -> list[float]:
                seen = []
                for _ in range(3):
                    found = samples(served.get("/metrics").body)
                    seen.append(value(found, "trades_total", **BTC))
                return seen

            for seen in pool.map(scrape, range(4)):
                assert seen == sorted(seen)
            counting.result()
        found = samples(served.get("/metrics").body)
        assert value(found, "trades_total", **BTC) == 50_000


def test_the_registry_is_its_own() -> None:
    LiveMetrics(StatusBoard(live_status()))
    LiveMetrics(StatusBoard(live_status()))
    assert not [family.name for family in REGISTRY.collect() if "rangebar" in family.name]


@pytest.mark.parametrize("module", ["rangebar_polars.live.health.server", "rangebar_polars"])
def test_the_library_is_imported_when_it_is_needed(module) -> None:
    code = f"import sys, {module}; print('prometheus_client' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"
