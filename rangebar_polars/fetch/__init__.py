"""From the outside world to a frame of trades with the canonical columns."""

from rangebar_polars.fetch.binance_archive import scan_agg_trades
from rangebar_polars.fetch.normalise import TradeFileWarning

__all__ = ["TradeFileWarning", "scan_agg_trades"]
