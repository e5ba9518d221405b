"""Settings of live bars and notifications, and how a setting is described.

They are a part of `rangebar_polars.config.Settings`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils.settings.types import (
    COUNT,
    NOTIFY_URLS,
    SECONDS,
    STREAM_ADDRESS,
    SWITCH,
    TEXT,
    THRESHOLD,
    choice,
    listed,
    whole_number,
)

if TYPE_CHECKING:
    from rangebar_polars._utils.address import Address
    from rangebar_polars._utils.settings.types import Kind

__all__ = ["Described", "LiveSettings", "about"]


@dataclass(frozen=True, slots=True)
class Described:
    """The description of a setting, in the metadata of its field."""

    kind: Kind
    meaning: str
    default_text: str | None = None
    other_variables: tuple[str, ...] = ()


def about(*described: Any) -> dict[str, Described]:  # noqa: ANN401
    """Return the metadata of the field of a setting."""
    return {"setting": Described(*described)}


def _bases(market: str, path: str) -> dict[str, Described]:
    meaning = f"Stands before `/stream` of {market}; several are tried in turn{path}."
    return about(listed(STREAM_ADDRESS), meaning, "Binance's own")


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """Settings of the streams, of a sidecar, and of notifications."""

    binance_stream_url: tuple[Address, ...] | None = field(
        default=None, metadata=_bases("spot trades", "")
    )
    binance_um_stream_url: tuple[Address, ...] | None = field(
        default=None, metadata=_bases("USD-margined futures", ". Binance's own ends in `/market`")
    )
    binance_cm_stream_url: tuple[Address, ...] | None = field(
        default=None, metadata=_bases("coin-margined futures", "")
    )
    streaming_symbols: tuple[str, ...] | None = field(
        default=None, metadata=about(listed(TEXT), "Symbols of `rangebar sidecar`.", "none")
    )
    streaming_thresholds: tuple[int, ...] | None = field(
        default=None,
        metadata=about(
            listed(THRESHOLD),
            "Thresholds of `rangebar sidecar`, in decimal basis points.",
            "250, 500, 750, 1000",
        ),
    )
    streaming_microstructure: bool = field(
        default=True,
        metadata=about(SWITCH, "Whether live bars have the columns of the group `microstructure`."),
    )
    streaming_gap_fill: bool = field(
        default=True,
        metadata=about(SWITCH, "Whether a sidecar populates missing days at its start."),
    )
    streaming_verbose: bool = field(
        default=False,
        metadata=about(SWITCH, "Whether a sidecar logs each bar, and at level DEBUG."),
    )
    streaming_watchdog_timeout_s: float = field(
        default=300.0,
        metadata=about(SECONDS, "A symbol that is not live for longer emits `sidecar_stalled`."),
    )
    streaming_notify: str = field(
        default="failures",
        metadata=about(choice("failures", "off"), "What a sidecar sends notifications about."),
    )
    notify_urls: tuple[str, ...] | None = field(
        default=None,
        repr=False,
        metadata=about(
            NOTIFY_URLS,
            "Services of apprise that notifications go to, besides Telegram and Pushover.",
            "none",
        ),
    )
    max_pending_bars: int = field(
        default=10_000,
        metadata=about(COUNT, "Live bars in memory for each consumer, at most."),
    )
    health_port: int = field(
        default=8081,
        metadata=about(
            whole_number(0, 65_535), "Port of a sidecar's health interface; 0 turns it off."
        ),
    )
    health_host: str = field(
        default="127.0.0.1", metadata=about(TEXT, "Address of a sidecar's health interface.")
    )
