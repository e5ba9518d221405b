"""Metrics of a sidecar in the text format of Prometheus, from plain numbers at each scrape."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rangebar_polars._utils.optional import import_extra
from rangebar_polars.live.protocol.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rangebar_polars.live.health.board import HealthSource, LiveCounts
    from rangebar_polars.live.health.status import LiveStatus

__all__ = ["CONTENT_TYPE", "METRICS", "LiveMetrics", "Metric"]

#: Newer releases of the library announce another version of the same format.
CONTENT_TYPE = "text/plain; version=0.0.4"
PREFIX = "rangebar_live_"


class Metric(NamedTuple):
    """A metric: its name without prefix and `_total`, what it means, and its labels."""

    name: str
    help: str
    labels: tuple[str, ...]
    is_counter: bool


#: Name, help and labels.
_Row: TypeAlias = tuple[str, str, tuple[str, ...]]
_SYMBOL = ("symbol", "market")
_COUNTERS: tuple[_Row, ...] = (
    ("trades", "Trades that were applied.", _SYMBOL),
    ("duplicates", "Trades that arrived again.", _SYMBOL),
    ("gaps", "Gaps that stayed open for 5 s.", _SYMBOL),
    ("ids_backfilled", "Trades that came from REST.", _SYMBOL),
    ("ids_missing", "Ids that were confirmed missing.", _SYMBOL),
    ("messages_rejected", "Messages and trades that are not valid.", _SYMBOL),
    ("bars", "Bars that ended.", (*_SYMBOL, "threshold")),
    ("reconnects", "Connections that ended.", ("market", "reason")),
    ("rest_requests", "Requests to REST.", ("status",)),
    ("consumer_failures", "Calls of a consumer that raised.", ("consumer",)),
    ("notifications", "Notifications.", ("service", "outcome")),
)
_GAUGES: tuple[_Row, ...] = (
    ("state", "1 for the present state, 0 for the others.", (*_SYMBOL, "state")),
    ("applied_id", "The applied id.", _SYMBOL),
    ("lag_seconds", "How late the last message was.", _SYMBOL),
    ("last_trade_age_seconds", "Time since the last trade arrived.", _SYMBOL),
    ("gaps_open", "Open gaps.", _SYMBOL),
    ("journal_bytes", "Size of the journals of days that are not finalized.", _SYMBOL),
    ("unsynced_seconds", "Age of the oldest record that is not synced.", _SYMBOL),
    ("pending_bars", "Bars in the queue of a consumer.", ("consumer",)),
    ("unfinalized_days", "Closed days that are not finalized.", _SYMBOL),
    ("disk_free_bytes", "Free space where the cache folder is.", ()),
    ("loop_lag_seconds", "How late the event loop is.", ()),
    ("rest_used_weight", "Weight of REST used in this minute.", ()),
    ("build_info", "1, with the version of the package.", ("version",)),
)
#: All metrics in their order.
METRICS = (
    *(Metric(name, text, labels, True) for name, text, labels in _COUNTERS),  # noqa: FBT003
    *(Metric(name, text, labels, False) for name, text, labels in _GAUGES),  # noqa: FBT003
)

#: Name of a metric, values of its labels, value.
_Sample: TypeAlias = tuple[str, tuple[str, ...], float | None]


class LiveMetrics:
    """The metrics of a sidecar, in a registry of their own.

    Parameters
    ----------
    source
        Status and numbers.

    Raises
    ------
    MissingExtraError
        `prometheus-client` is not installed.
    """

    def __init__(self, source: HealthSource) -> None:
        library = import_extra("prometheus_client", "live")
        self._families = import_extra("prometheus_client.core", "live")
        self._generate = library.generate_latest
        self._source = source
        self._registry = library.CollectorRegistry()
        self._registry.register(self)
        self._lock = Lock()
        self._rising: dict[tuple[str, tuple[str, ...]], _Rising] = {}

    def text(self) -> bytes:
        """Return all metrics in the text format 0.0.4."""
        text: bytes = self._generate(self._registry)
        return text

    def describe(self) -> list[Any]:
        """Return nothing: the library would otherwise collect once when it registers."""
        return []

    def collect(self) -> list[Any]:
        """Return the families of samples. The library calls it at each scrape."""
        families = {one.name: self._family(one) for one in METRICS}
        # In a lock, so that of two scrapes the later one has the later numbers.
        with self._lock:
            for name, labels, value in _counted(self._source.counts()):
                key = (name, labels)
                rising = self._rising.setdefault(key, _Rising())
                families[name].add_metric(labels, rising.value(value or 0))
            for name, labels, value in _measured(self._source.status()):
                if value is not None:
                    families[name].add_metric(labels, value)
        return list(families.values())

    def _family(self, metric: Metric) -> Any:  # noqa: ANN401
        kind = "CounterMetricFamily" if metric.is_counter else "GaugeMetricFamily"
        make = getattr(self._families, kind)
        return make(PREFIX + metric.name, metric.help, labels=metric.labels)


class _Rising:
    """A number that never falls, also if the part that counts it was replaced and begins at 0."""

    __slots__ = ("_base", "_last")

    def __init__(self) -> None:
        self._base, self._last = 0.0, 0.0

    def value(self, counted: float) -> float:
        if counted < self._last:
            self._base += self._last
        self._last = counted
        return self._base + counted


def _counted(counts: LiveCounts) -> Iterator[_Sample]:
    """Yield the counters. Mappings are copied first, since the loop adds to them meanwhile."""
    for key, of_symbol in dict(counts.symbols).items():
        for name, _, labels in _COUNTERS:
            if labels is _SYMBOL:
                yield name, key, getattr(of_symbol, name)
        for threshold, bars in dict(of_symbol.bars).items():
            yield "bars", (*key, str(threshold)), bars
    yield from _labelled("reconnects", dict(counts.reconnects).items())
    yield from _labelled("notifications", dict(counts.notifications).items())
    for status, requests in dict(counts.rest_requests).items():
        yield "rest_requests", (str(status),), requests
    for consumer, failures in dict(counts.consumer_failures).items():
        yield "consumer_failures", (consumer,), failures


def _labelled(name: str, counts: Iterable[tuple[tuple[str, str], int]]) -> Iterator[_Sample]:
    return ((name, labels, count) for labels, count in counts)


def _measured(status: LiveStatus) -> Iterator[_Sample]:
    """Yield the gauges."""
    for one in status.symbols:
        key = (one.symbol, one.market)
        for state in State:
            yield "state", (*key, state.value), float(one.state is state)
        yield "applied_id", key, one.applied_id
        yield "lag_seconds", key, one.lag_s
        yield "last_trade_age_seconds", key, one.last_trade_age_s
        yield "gaps_open", key, one.gaps_open
        yield "journal_bytes", key, one.journal_bytes
        yield "unsynced_seconds", key, one.unsynced_s
        yield "unfinalized_days", key, one.unfinalized_days
    for consumer in status.consumers:
        yield "pending_bars", (consumer.name,), consumer.pending
    process = status.process
    yield "disk_free_bytes", (), process.disk_free_bytes
    yield "loop_lag_seconds", (), process.loop_lag_s
    yield "rest_used_weight", (), status.rest.used_weight
    yield "build_info", (process.version,), 1
