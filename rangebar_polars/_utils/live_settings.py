"""Settings of live bars, a part of `rangebar_polars.config.Settings`, and how a setting is described."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils.setting_types import STREAM_ADDRESS, listed

if TYPE_CHECKING:
    from rangebar_polars._utils.address import Address
    from rangebar_polars._utils.setting_types import Kind

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
    """Settings of the streams."""

    binance_stream_url: tuple[Address, ...] | None = field(
        default=None, metadata=_bases("spot trades", "")
    )
    binance_um_stream_url: tuple[Address, ...] | None = field(
        default=None, metadata=_bases("USD-margined futures", ". Binance's own ends in `/market`")
    )
    binance_cm_stream_url: tuple[Address, ...] | None = field(
        default=None, metadata=_bases("coin-margined futures", "")
    )
