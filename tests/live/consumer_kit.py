"""Consumers with real threads and files, over the bars of a made-up symbol."""

from __future__ import annotations

from threading import Condition

from live.bar_world import frames_of
from rangebar_polars.live.consumers import (
    BarConsumer,
    CallbackReceiver,
    CursorStore,
    DeliveryOptions,
    boot_id,
)
from rangebar_polars.sources import Venue

VENUE = Venue("binance", "spot")
WAIT_S = 120.0


class Reports:
    """What consumers report, for a test that waits for it."""

    def __init__(self):
        self.condition = Condition()
        self.events = []
        self.stops = []

    def event(self, symbol, name, **fields):
        with self.condition:
            self.events.append((symbol, name, fields))
            self.condition.notify_all()

    def stop(self, reason, error):
        with self.condition:
            self.stops.append((reason, error))
            self.condition.notify_all()


class Taken:
    """A callback that keeps the frames; `before` is called with each first."""

    def __init__(self, before=lambda _frame: None):
        self.condition = Condition()
        self.frames = []
        self.before = before

    def __call__(self, frame):
        self.before(frame)
        with self.condition:
            self.frames.append(frame)
            self.condition.notify_all()

    def ids(self, threshold):
        return [
            row[0]
            for frame in list(self.frames)
            for row in frame.filter(threshold=threshold).select("last_agg_trade_id").iter_rows()
        ]


def wait_for(condition, predicate):
    with condition:
        assert condition.wait_for(predicate, WAIT_S), "nothing happened"


def store(folder, kind="callback", name="test", disk=None):
    return CursorStore(folder, name, kind, VENUE, disk=disk)


def consumer(world, folder, receiver, reports, *, kind="callback", disk=None, **options):
    """Return a consumer of a world that has read its cursors."""
    receiver = receiver if hasattr(receiver, "deliver") else CallbackReceiver(receiver)
    options.setdefault("boot", boot_id())
    found = BarConsumer(
        DeliveryOptions("test", kind, **options),
        frames_of(world),
        receiver,
        reports,
        store(folder, kind, disk=disk),
        world,
    )
    found.load([world.symbol])
    return found


def begin(world, found, applied_id=None):
    """Begin at an id, and be live there."""
    if applied_id is not None:
        world.applied_id = applied_id
    found.begin(world.symbol, world.starts(), [], world.applied_id)
    found.live(world.symbol, world.applied_id)


def apply(world, found, count):
    bars = world.apply(count)
    if bars:
        found.queue(world.symbol, bars, world.applied_id)


def closed(found):
    """Close a consumer, and wait until it has."""
    done = Condition()
    calls = []

    def note():
        with done:
            calls.append(None)
            done.notify_all()

    found.close(note)
    wait_for(done, lambda: calls)
    assert len(calls) == 1
    return found.status()


def expected_ids(world, threshold, after_id):
    return [row[1] for row in world.expected(threshold, after_id)]
