"""A hand-made sample of each layout, and what its rows are."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

BYBIT = "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional"
POLYGON = (
    "ticker,conditions,correction,exchange,id,participant_timestamp,price,sequence_number,"
    "sip_timestamp,size,tape,trf_id,trf_timestamp"
)
DATABENTO = (
    "ts_recv,ts_event,rtype,publisher_id,instrument_id,action,side,depth,price,size,flags,"
    "ts_in_delta,sequence"
)


class Sample(NamedTuple):
    """Text of a file, its layout, and its rows without the time; and the first time."""

    layout: str
    text: str | bytes
    columns: list[str]
    rows: list[tuple]
    first: datetime


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)


IDS = ["agg_trade_id", "first_trade_id", "last_trade_id"]
TRADE = ["price", "quantity"]
MAKER = ["is_buyer_maker"]

SAMPLES = {
    "binance agg, spot": Sample(
        "binance-agg-trades (spot)",
        "1,61837.63,0.02,71,72,1723161255342,True,True\n2,0,0,-1,-1,1723161255342,True,True\n",
        TRADE + IDS + MAKER,
        [(61837.63, 0.02, 1, 71, 72, True)],
        at(2024, 8, 8, 23, 54, 15, 342_000),
    ),
    "binance agg, futures": Sample(
        "binance-agg-trades (futures)",
        "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker\n"
        "26129,0.01633102,4.70443515,27781,27781,1698796805027,true\n",
        TRADE + IDS + MAKER,
        [(0.01633102, 4.70443515, 26129, 27781, 27781, True)],
        at(2023, 11, 1, 0, 0, 5, 27_000),
    ),
    "binance trades, spot": Sample(
        "binance-trades (spot)",
        "28457,4986.00000000,5.00000000,24930.00000000,1499040001000,True,True\n"
        "28458,4986.10000000,2.00000000,9972.20000000,1499040002000,False,True\n",
        TRADE + IDS + MAKER,
        [(4986.0, 5.0, *[28457] * 3, True), (4986.1, 2.0, *[28458] * 3, False)],
        at(2017, 7, 3, 0, 0, 1),
    ),
    "binance trades, spot in microseconds": Sample(
        "binance-trades (spot)",
        "28457,4986,5,24930,1735689600015523,True,True\n",
        TRADE + IDS + MAKER,
        [(4986.0, 5.0, *[28457] * 3, True)],
        at(2025, 1, 1, 0, 0, 0, 15_523),
    ),
    "binance trades, um": Sample(
        "binance-trades (um)",
        "id,price,qty,quote_qty,time,is_buyer_maker\n"
        "3997656,4261.48,0.051,217.33548,1569312000277,false\n",
        TRADE + IDS + MAKER,
        [(4261.48, 0.051, *[3997656] * 3, False)],
        at(2019, 9, 24, 8, 0, 0, 277_000),
    ),
    "binance trades, um without names": Sample(
        "binance-trades (um)",
        "3997656,4261.48,0.051,217.33548,1569312000277,false\n",
        TRADE + IDS + MAKER,
        [(4261.48, 0.051, *[3997656] * 3, False)],
        at(2019, 9, 24, 8, 0, 0, 277_000),
    ),
    "binance trades, cm": Sample(
        "binance-trades (cm)",
        "id,price,qty,base_qty,time,is_buyer_maker\n"
        "1151022504,78526.1,83.0,0.10569734,1788220802731,true\n",
        [*TRADE, "contracts", *IDS, *MAKER],
        [(78526.1, 0.10569734, 83.0, *[1151022504] * 3, True)],
        at(2026, 9, 1, 0, 0, 2, 731_000),
    ),
    "binance trades, cm without names": Sample(
        "binance-trades (cm)",
        "28457,9635.0,1,0.01037883,1591250192508,true\n",
        [*TRADE, "contracts", *IDS, *MAKER],
        [(9635.0, 0.01037883, 1.0, *[28457] * 3, True)],
        at(2020, 6, 4, 5, 56, 32, 508_000),
    ),
    "bybit, linear": Sample(
        "bybit (linear)",
        f"{BYBIT},RPI\n1784851200.0547,BTCUSDT,Buy,0.038,65065.80,ZeroPlusTick,d6b9a5ac,2.4e+11,"
        "0.038,2472.5004,0\n1784851200.0548,BTCUSDT,Sell,1,65065.80,ZeroPlusTick,d6b9a5ad,2.4e+11,"
        "1,2472.5004,0\n",
        [*TRADE, "trade_id", *MAKER],
        [(65065.8, 0.038, "d6b9a5ac", False), (65065.8, 1.0, "d6b9a5ad", True)],
        at(2026, 7, 24, 0, 0, 0, 54_700),
    ),
    "bybit, inverse, newest first": Sample(
        "bybit (inverse)",
        f"{BYBIT}\n1692748801.279,BTCUSD,Sell,641,26027.00,MinusTick,b,2.46e+06,641,0.02462827064\n"
        "1692748800.279,BTCUSD,Buy,100,25000.00,MinusTick,a,4e+05,100,0.004\n",
        [*TRADE, "contracts", "trade_id", *MAKER],
        [(25000.0, 0.004, 100.0, "a", False), (26027.0, 0.02462827, 641.0, "b", True)],
        at(2023, 8, 23, 0, 0, 0, 279_000),
    ),
    "bybit, spot": Sample(
        "bybit (spot)",
        "id,timestamp,price,volume,side,rpi\n1,1784937600662,64142.5,0.00016,buy,0\n",
        TRADE + MAKER,
        [(64142.5, 0.00016, False)],
        at(2026, 7, 25, 0, 0, 0, 662_000),
    ),
    "okx": Sample(
        "okx",
        "instrument_name,trade_id,side,price,size,created_time,source\n"
        "BTC-USDT,1566502282,sell,104503.0,30.14,1748707200008,0\n",
        TRADE + IDS + MAKER,
        [(104503.0, 30.14, *[1566502282] * 3, True)],
        at(2025, 5, 31, 16, 0, 0, 8_000),
    ),
    "okx, translated": Sample(
        "okx (before 2025)",
        "trade_id/撮合id,side/交易方向,size/数量,price/价格,created_time/成交时间\n"
        "719977054,buy,0.00527188,84760.0,1682434103856\n".encode("gbk"),
        TRADE + IDS + MAKER,
        [(84760.0, 0.00527188, *[719977054] * 3, False)],
        at(2023, 4, 25, 14, 48, 23, 856_000),
    ),
    "okx, without names": Sample(
        "okx (before 2025)",
        "719977054,buy,0.00527188,84760.0,1633046400000\n",
        TRADE + IDS + MAKER,
        [(84760.0, 0.00527188, *[719977054] * 3, False)],
        at(2021, 10, 1),
    ),
    "bitget": Sample(
        "bitget",
        "trade_id,timestamp,price,side,volume(quote),size(base)\n"
        "1478349886556192768,1788192000000,78575,buy,3.92875,0.00005\n",
        [*TRADE, "trade_id", *MAKER],
        [(78575.0, 0.00005, "1478349886556192768", False)],
        at(2026, 8, 31, 16),
    ),
    "kraken": Sample(
        "kraken",
        "1381095255,123.61000,0.10000000\n1381179030,123.91000,1.00000000\n",
        TRADE,
        [(123.61, 0.1), (123.91, 1.0)],
        at(2013, 10, 6, 21, 34, 15),
    ),
    "coinbase": Sample(
        "coinbase",
        "time,trade_id,price,size,side\n2024-01-01T00:00:00.123456Z,5,42000.1,0.1,buy\n"
        "2024-01-01T00:00:01Z,6,42000.2,0.1,sell\n",
        TRADE + IDS + MAKER,
        [(42000.1, 0.1, 5, 5, 5, True), (42000.2, 0.1, 6, 6, 6, False)],
        at(2024, 1, 1, 0, 0, 0, 123_456),
    ),
    "tardis": Sample(
        "tardis",
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"
        "bitmex,XBTUSD,1585699202957000,1585699203957000,aaa,buy,6425.5,12\n"
        "bitmex,XBTUSD,1585699203957000,1585699204957000,,unknown,6425,150\n",
        [*TRADE, "trade_id", *MAKER],
        [(6425.5, 12.0, "aaa", False), (6425.0, 150.0, None, None)],
        at(2020, 4, 1, 0, 0, 2, 957_000),
    ),
    "databento, pretty": Sample(
        "databento-csv (symbols)",
        f"{DATABENTO},symbol\n2025-09-08T00:00:00.005301633Z,2025-09-08T00:00:00.004194717Z,0,1,"
        "14160,T,B,0,6505.000000000,2,0,13730,245991,ESU5\n",
        TRADE + MAKER,
        [(6505.0, 2.0, False)],
        at(2025, 9, 8, 0, 0, 0, 4_194),
    ),
    "databento, raw": Sample(
        "databento-csv (instrument ids)",
        f"{DATABENTO}\n1609113600000000000,1609099225061045683,0,1,5482,T,A,0,3675750000000,2,0,1,1\n"
        "1609113600000000000,1609099225061045683,160,1,5482,A,N,0,1,2,0,1,2\n"
        "1609113600000000000,1609099225061045999,0,1,5482,T,N,0,3675500000000,3,0,1,3\n",
        TRADE + MAKER,
        [(3675.75, 2.0, True), (3675.5, 3.0, None)],
        at(2020, 12, 27, 20, 0, 25, 61_045),
    ),
    "polygon, stocks": Sample(
        "polygon (stocks, options)",
        f'{POLYGON}\nA,"12,37",0,4,7,1789718400814766587,157.350000,3372,1789718400831008119,10.0,1,'
        "202,1789718400830651291\n",
        TRADE,
        [(157.35, 10.0)],
        at(2026, 9, 18, 8, 0, 0, 831_008),
    ),
    "polygon, crypto": Sample(
        "polygon (crypto)",
        "ticker,conditions,exchange,id,participant_timestamp,price,size\n"
        "X:BTC-USD,1,1,9,1789718400814766587,60000.5,0.1\n",
        TRADE,
        [(60000.5, 0.1)],
        at(2026, 9, 18, 8, 0, 0, 814_766),
    ),
    "dukascopy, GMT": Sample(
        "dukascopy (GMT)",
        "Gmt time,Ask,Bid,AskVolume,BidVolume\n31.07.2011 23:00:00.652,1.13729,1.13699,2.25,1.13\n",
        ["price", "bid", "ask"],
        [(1.13714, 1.13699, 1.13729)],
        at(2011, 7, 31, 23, 0, 0, 652_000),
    ),
    "dukascopy, local time": Sample(
        "dukascopy (local time)",
        "Local time,Ask,Bid,AskVolume,BidVolume\n"
        "01.12.2017 00:00:00.192 GMT+0100,1.13729,1.13699,2.25,1.13\n",
        ["price", "bid", "ask"],
        [(1.13714, 1.13699, 1.13729)],
        at(2017, 11, 30, 23, 0, 0, 192_000),
    ),
    "dukascopy-node": Sample(
        "dukascopy (dukascopy-node)",
        "timestamp,askPrice,bidPrice,askVolume,bidVolume\n1735772400455,2626.592,2625.098,1,1\n",
        ["price", "bid", "ask"],
        [(2625.845, 2625.098, 2626.592)],
        at(2025, 1, 1, 23, 0, 0, 455_000),
    ),
    "csv": Sample(
        "csv",
        "timestamp,price,quantity,side\n2024-01-01T00:00:00.5+01:00,1.5,2,B\n",
        TRADE + MAKER,
        [(1.5, 2.0, False)],
        at(2023, 12, 31, 23, 0, 0, 500_000),
    ),
}


def content(sample: Sample) -> bytes:
    return sample.text if isinstance(sample.text, bytes) else sample.text.encode()


def spot(ids: range, start_ms: int = 1_704_067_200_000, price: float = 42000.5) -> str:
    """Rows of a file of single spot trades, a second apart."""
    return "".join(
        f"{i},{price},0.5,{price / 2},{start_ms + 1000 * n},True,True\n" for n, i in enumerate(ids)
    )
