"""User sources: their ticks come from `TickStorage.write_ticks` only, so nothing is fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rangebar_polars._utils.span import describe_days
from rangebar_polars.exceptions import TicksNotCachedError, with_hint
from rangebar_polars.storage.layout import write_hint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from rangebar_polars.sources import Venue
    from rangebar_polars.storage.parquet import TickStorage

__all__ = ["check_user_days"]


def check_user_days(
    storage: TickStorage, symbol: str, venue: Venue, missing: Sequence[date]
) -> None:
    """Check that no day of a user source is missing.

    Raises
    ------
    TicksNotCachedError
        Days are missing. They cannot be fetched.
    """
    if not missing:
        return
    symbol_dir = storage.symbol_dir(symbol, venue.source, venue.market)
    raise TicksNotCachedError(
        with_hint(
            f"days of {symbol_dir.label} are not in the store: {describe_days(missing)}; "
            f"ticks of `{venue.source}` come from write_ticks only",
            write_hint(symbol_dir),
        ),
        symbol=symbol,
        days=missing,
    )
