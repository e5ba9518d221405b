"""Layouts of public trade files: one table of what each column of a dump is."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rangebar_polars import _internal

__all__ = ["AGG_TRADES", "BUY", "EARLIEST_S", "LATEST_S", "LAYOUTS", "NAMES", "NO_SIDE", "SELL"]
__all__ += ["TIME_UNITS", "TRUTH", "TradeLayout", "column_key"]

#: Units of times that are numbers, and how many of each are in a second.
TIME_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
#: 2000 and 2100, in seconds: the numbers of no two units overlap.
EARLIEST_S, LATEST_S = 946_684_800, 4_102_444_800
#: Words for the side of a trade, in lower case.
BUY, SELL, NO_SIDE = map(frozenset, _internal.side_words())
#: Words for true and false.
TRUTH = ("true", "false", "1", "0")


@dataclass(frozen=True, slots=True)
class TradeLayout:
    """One form of a dump: its columns, and which of them is which field."""

    #: The name that `layout=` takes, and what tells the forms of one name apart.
    name: str
    form: str
    #: Columns as published, in their order; a header may have others, and some more.
    columns: tuple[str, ...]
    #: "always", "never", or "either": files with a header and files without one exist.
    header: str
    time: str
    #: Units that files use, "iso", or a format of `strftime`; the values decide between several.
    time_units: tuple[str, ...]
    price: str = ""
    quantity: str = ""
    bid: str = ""
    ask: str = ""
    #: A Boolean column, true where the buyer was the maker.
    buyer_maker: str = ""
    #: A column of words, and whose side they name: "taker" or "maker".
    side: str = ""
    side_of: str = "taker"
    #: Ids of trades: "consecutive", "increasing", or "text", which proves uniqueness alone.
    id: str = ""
    id_kind: str = ""
    first_id: str = ""
    last_id: str = ""
    #: The quantity in contracts, where `quantity` is in coins: contracts / price if no column has it.
    contracts: str = ""
    #: The turnover, price times quantity, by which files of the same columns are told apart.
    turnover: str = ""
    symbol: str = ""
    #: Rows to read: a column and the value that it must have.
    only: tuple[str, str] | None = None
    #: Names that a header must have; by default all columns.
    required: tuple[str, ...] = ()
    #: Whether a header may have no other columns.
    is_closed: bool = False
    #: Whether a price without a point is a whole number of 1e-9.
    has_scaled_price: bool = False
    #: Trades at all hours, so that a day without any is a file that is missing.
    never_closes: bool = True
    compression: str = "zip"
    unit: str = "coins"
    source: str = ""
    note: str = ""

    @property
    def title(self) -> str:
        """Name and form."""
        return f"{self.name} ({self.form})" if self.form else self.name

    @property
    def needed(self) -> tuple[str, ...]:
        """Keys of the columns that a header must have."""
        return tuple(map(column_key, self.required or self.columns))


def column_key(name: str) -> str:
    """Return a column's name without case, blanks and signs; a translation behind `/` is left out.

    Examples
    --------
    >>> from rangebar_polars.trade_layouts.table import column_key
    >>> column_key("isBuyerMaker"), column_key("is_buyer_maker"), column_key('"price/价格"')
    ('isbuyermaker', 'isbuyermaker', 'price')
    """
    plain = name.strip().strip('"').strip()
    head, slash, tail = plain.partition("/")
    if slash and not tail.isascii():
        plain = head
    return re.sub(r"[\s_.\-]", "", plain).lower()


def _split(names: str) -> tuple[str, ...]:
    return tuple(names.split(","))


BINANCE = "Binance, `binance/binance-public-data`, README"
AGG_TRADES = "binance-agg-trades"
_AGG = "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker"
_SPOT_AGG = _AGG.replace("transact_time", "timestamp") + ",is_best_match"

LAYOUTS: tuple[TradeLayout, ...] = (
    *(
        TradeLayout(
            AGG_TRADES,
            form,
            _split(columns),
            header="either",
            time=time,
            time_units=units,
            price="price",
            quantity="quantity",
            buyer_maker="is_buyer_maker",
            id="agg_trade_id",
            id_kind="consecutive",
            first_id="first_trade_id",
            last_id="last_trade_id",
            unit="coins; contracts for coin-margined futures",
            source=BINANCE,
            note="`scan_agg_trades` puts a whole file in order in memory; this reads blocks.",
        )
        for form, columns, time, units in (
            ("spot", _SPOT_AGG, "timestamp", ("ms", "us")),
            ("futures", _AGG, "transact_time", ("ms",)),
        )
    ),
    TradeLayout(
        "binance-trades",
        "spot",
        _split("id,price,qty,quote_qty,time,is_buyer_maker,is_best_match"),
        header="either",
        time="time",
        time_units=("ms", "us"),
        price="price",
        quantity="qty",
        buyer_maker="is_buyer_maker",
        id="id",
        id_kind="consecutive",
        source=BINANCE,
        note="Single fills. Microseconds since 2025.",
    ),
    TradeLayout(
        "binance-trades",
        "um",
        _split("id,price,qty,quote_qty,time,is_buyer_maker"),
        header="either",
        time="time",
        time_units=("ms",),
        price="price",
        quantity="qty",
        turnover="quote_qty",
        buyer_maker="is_buyer_maker",
        id="id",
        id_kind="increasing",
        source=BINANCE,
        note="Single fills. A header since 2022.",
    ),
    TradeLayout(
        "binance-trades",
        "cm",
        _split("id,price,qty,base_qty,time,is_buyer_maker"),
        header="either",
        time="time",
        time_units=("ms",),
        price="price",
        quantity="base_qty",
        contracts="qty",
        buyer_maker="is_buyer_maker",
        id="id",
        id_kind="increasing",
        source=BINANCE,
        note="`quantity` is `base_qty`; `contracts` is `qty`.",
    ),
    *(
        TradeLayout(
            "bybit",
            form,
            _split(
                "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,"
                "foreignNotional"
            ),
            header="always",
            time="timestamp",
            time_units=("s",),
            price="price",
            quantity=quantity,
            contracts=contracts,
            side="side",
            id="trdMatchID",
            id_kind="text",
            symbol="symbol",
            required=_split("timestamp,symbol,side,size,price,tickDirection,trdMatchID"),
            compression="gzip",
            unit=unit,
            source="Bybit, public.bybit.com/trading; side: API v5, Public Trade",
            note=note,
        )
        for form, quantity, contracts, unit, note in (
            ("linear", "size", "", "coins", "Decimal seconds. Early files run newest first."),
            (
                "inverse",
                "",
                "size",
                "coins",
                "Symbols that end in USD: `contracts` is `size`, in USD; `quantity` is size / price.",
            ),
        )
    ),
    TradeLayout(
        "bybit",
        "spot",
        _split("id,timestamp,price,volume,side"),
        header="always",
        time="timestamp",
        time_units=("ms",),
        price="price",
        quantity="volume",
        side="side",
        compression="gzip",
        source="Bybit, public.bybit.com/spot; side: API v5, Public Trade",
        note="`id` counts the rows of a file and is left out.",
    ),
    TradeLayout(
        "okx",
        "",
        _split("instrument_name,trade_id,side,price,size,created_time"),
        header="always",
        time="created_time",
        time_units=("ms",),
        price="price",
        quantity="size",
        side="side",
        id="trade_id",
        id_kind="increasing",
        symbol="instrument_name",
        unit="coins; contracts for SWAP, futures and options",
        source="OKX, okx.com/historical-data; side: API v5, Trades Channel",
        note="A file holds a day of UTC+8.",
    ),
    TradeLayout(
        "okx",
        "before 2025",
        _split("trade_id,side,size,price,created_time"),
        header="either",
        time="created_time",
        time_units=("ms",),
        price="price",
        quantity="size",
        side="side",
        id="trade_id",
        id_kind="increasing",
        is_closed=True,
        unit="coins; contracts for SWAP, futures and options",
        source="OKX, okx.com/historical-data; side: API v5, Trades Channel",
        note="Names are followed by their Chinese translation. No header before 2022.",
    ),
    TradeLayout(
        "bitget",
        "",
        _split("trade_id,timestamp,price,side,volume(quote),size(base)"),
        header="always",
        time="timestamp",
        time_units=("ms",),
        price="price",
        quantity="size(base)",
        side="side",
        id="trade_id",
        id_kind="text",
        source="Bitget, bitget.com/data-download; side: API v2, Public Trade",
        note="A file holds part of a day of UTC+8, to the second. Ids have gaps.",
    ),
    TradeLayout(
        "kraken",
        "",
        _split("timestamp,price,volume"),
        header="never",
        time="timestamp",
        time_units=("s",),
        price="price",
        quantity="volume",
        source="Kraken Support, Downloadable historical market data (time and sales)",
        note="No side and no ids. Times to the second.",
    ),
    TradeLayout(
        "coinbase",
        "",
        _split("time,trade_id,price,size,side"),
        header="always",
        time="time",
        time_units=("iso",),
        price="price",
        quantity="size",
        side="side",
        side_of="maker",
        id="trade_id",
        id_kind="increasing",
        is_closed=True,
        compression="",
        source="Coinbase Exchange API, Get product trades",
        note="Fields of the endpoint, saved as CSV. The side is the maker's.",
    ),
    TradeLayout(
        "tardis",
        "",
        _split("exchange,symbol,timestamp,local_timestamp,id,side,price,amount"),
        header="always",
        time="timestamp",
        time_units=("us",),
        price="price",
        quantity="amount",
        side="side",
        id="id",
        id_kind="text",
        symbol="symbol",
        compression="gzip",
        unit="as the exchange: coins or contracts",
        source="Tardis.dev, Downloadable CSV files, data types, trades",
        note="`timestamp` is the exchange's; files run in the order of `local_timestamp`.",
    ),
    *(
        TradeLayout(
            "databento-csv",
            form,
            _split(
                "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,"
                "flags,ts_in_delta,sequence" + (",symbol" if form == "symbols" else "")
            ),
            header="always",
            time="ts_event",
            time_units=("ns", "iso"),
            price="price",
            has_scaled_price=True,
            quantity="size",
            side="side",
            symbol="symbol" if form == "symbols" else "instrument_id",
            only=("action", "T"),
            required=_split(
                "ts_event,rtype,publisher_id,instrument_id,action,side,price,size"
                + (",symbol" if form == "symbols" else "")
            ),
            never_closes=False,
            compression="",
            unit="shares or contracts",
            source="Databento, Schemas, Trades; Conventions, Prices",
            note="Raw and pretty files. Rows with an action other than T are not trades.",
        )
        for form in ("symbols", "instrument ids")
    ),
    TradeLayout(
        "polygon",
        "stocks, options",
        _split(
            "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,"
            "sip_timestamp,size,tape,trf_id,trf_timestamp"
        ),
        header="always",
        time="sip_timestamp",
        time_units=("ns",),
        price="price",
        quantity="size",
        symbol="ticker",
        required=_split("ticker,conditions,correction,exchange,price,sip_timestamp,size"),
        never_closes=False,
        compression="gzip",
        unit="shares or contracts",
        source="Massive (Polygon.io), Flat Files, trades_v1",
        note="A file holds all tickers: give `symbol`. No side; ids are those of each exchange.",
    ),
    TradeLayout(
        "polygon",
        "crypto",
        _split("ticker,conditions,exchange,id,participant_timestamp,price,size"),
        header="always",
        time="participant_timestamp",
        time_units=("ns",),
        price="price",
        quantity="size",
        symbol="ticker",
        is_closed=True,
        compression="gzip",
        source="Massive (Polygon.io), Flat Files, trades_v1",
        note="A file holds all pairs: give `symbol`. No side.",
    ),
    *(
        TradeLayout(
            "dukascopy",
            form,
            _split(columns),
            header="always",
            time=columns.partition(",")[0],
            time_units=units,
            bid=bid,
            ask=ask,
            required=_split(columns)[:3],
            never_closes=False,
            compression="",
            unit="none",
            source=source,
            note="Quotes: `price` is the mid. " + note,
        )
        for form, columns, units, bid, ask, source, note in (
            (
                "GMT",
                "Gmt time,Ask,Bid,AskVolume,BidVolume",
                ("%d.%m.%Y %H:%M:%S%.f",),
                "Bid",
                "Ask",
                "Dukascopy, Historical Data Export, ticks",
                "Days come before months.",
            ),
            (
                "local time",
                "Local time,Ask,Bid,AskVolume,BidVolume",
                ("%d.%m.%Y %H:%M:%S%.f GMT%z",),
                "Bid",
                "Ask",
                "Dukascopy, Historical Data Export, ticks",
                "Days come before months; times name their offset.",
            ),
            (
                "dukascopy-node",
                "timestamp,askPrice,bidPrice,askVolume,bidVolume",
                ("ms",),
                "bidPrice",
                "askPrice",
                "`Leo4815162342/dukascopy-node`, wiki, Downloading tick data",
                "The most common exporter.",
            ),
        )
    ),
)

#: Names that `layout=` takes; `parquet` and `csv` find fields by the names of the columns.
NAMES = (*dict.fromkeys(layout.name for layout in LAYOUTS), "parquet", "csv")
