"""Consumers of live bars: queues, delivery, replays and cursors."""

from __future__ import annotations

from rangebar_polars.live.consumers.callback import CallbackReceiver
from rangebar_polars.live.consumers.cursors import CursorStore, boot_id, check_consumer_name
from rangebar_polars.live.consumers.delivery import DeliveryOptions
from rangebar_polars.live.consumers.iterator import BarIterator
from rangebar_polars.live.consumers.ndjson import NdjsonReceiver
from rangebar_polars.live.consumers.replay import Replayed, ReplaySource
from rangebar_polars.live.consumers.worker import BarConsumer

__all__ = [
    "BarConsumer",
    "BarIterator",
    "CallbackReceiver",
    "CursorStore",
    "DeliveryOptions",
    "NdjsonReceiver",
    "ReplaySource",
    "Replayed",
    "boot_id",
    "check_consumer_name",
]
