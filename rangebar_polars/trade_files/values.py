"""Values of a file in the canonical columns, each of them checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.exceptions import TickDataError, with_hint
from rangebar_polars.fetch.decimals import GRID, TELLING_BELOW, has_eight_places, on_grid
from rangebar_polars.fetch.exness.csv import grid_units, is_quote, mid_price
from rangebar_polars.trade_layouts.sides import seller_took
from rangebar_polars.trade_layouts.table import EARLIEST_S, LATEST_S, TIME_UNITS

if TYPE_CHECKING:
    from rangebar_polars.trade_files.opening import Opened
    from rangebar_polars.trade_layouts.table import TradeLayout

__all__ = ["LINE", "TAIL", "Symbols", "amounts", "checked", "coins", "raw_schema", "schema_of"]

LINE = "line"
TAIL = "has_tail"
TIME = "timestamp"
MOST_SYMBOLS = 20_000
LARGEST = 1e300  # what is above is infinite, or no number


def schema_of(layout: TradeLayout) -> pl.Schema:
    """Return the columns that trades of a layout have in the end."""
    present: dict[str, pl.DataType | None] = {
        TIME: pl.Datetime("us", "UTC"),
        "price": pl.Float64(),
        "bid": pl.Float64() if layout.bid else None,
        "ask": pl.Float64() if layout.ask else None,
        "quantity": pl.Float64() if layout.quantity or layout.contracts else None,
        "contracts": pl.Float64() if layout.contracts else None,
    }
    if layout.id_kind == "text":
        present["trade_id"] = pl.String()
    elif layout.id:
        present["agg_trade_id"] = pl.Int64()
        # A single trade is the first and the last of its fills.
        if layout.name not in {"csv", "parquet"}:
            present |= {"first_trade_id": pl.Int64(), "last_trade_id": pl.Int64()}
    if layout.first_id and layout.last_id:
        present |= {"first_trade_id": pl.Int64(), "last_trade_id": pl.Int64()}
    if layout.side or layout.buyer_maker:
        present["is_buyer_maker"] = pl.Boolean()
    return pl.Schema({name: dtype for name, dtype in present.items() if dtype is not None})


def amounts(layout: TradeLayout) -> tuple[str, ...]:
    """Return the fields that are decimals."""
    fields = ("price", "quantity", "contracts", "bid", "ask")
    return tuple(field for field in fields if getattr(layout, field))


def raw_schema(opened: Opened) -> dict[str, tuple[str, pl.DataType]]:
    """Return the fields to read: the column of each, and what it holds."""
    layout = opened.layout
    time: pl.DataType = pl.String()
    if opened.unit in TIME_UNITS:
        time = pl.Float64() if opened.unit == "s" else pl.Int64()
    id_dtype: pl.DataType = pl.String() if layout.id_kind == "text" else pl.Int64()
    fields: dict[str, tuple[str, pl.DataType]] = {
        "time": (layout.time, time),
        **{field: (getattr(layout, field), pl.Float64()) for field in amounts(layout)},
        "buyer_maker": (layout.buyer_maker, pl.Boolean()),
        "side": (layout.side, pl.String()),
        "id": (layout.id, id_dtype),
        "first_id": (layout.first_id, pl.Int64()),
        "last_id": (layout.last_id, pl.Int64()),
        "symbol": (layout.symbol, pl.String()),
        "only": (layout.only[0] if layout.only else "", pl.String()),
    }
    if opened.is_scaled:
        fields["price"] = (layout.price, pl.Int64())
    return {field: pair for field, pair in fields.items() if pair[0]}


class Symbols:
    """The symbols of one file: rows of one are read, those of others are left out or refused."""

    def __init__(self, opened: Opened, wanted: str | None) -> None:
        self.opened = opened
        self.wanted = wanted
        self.seen: set[str] = set()

    def own(self, frame: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
        """Return the rows that count, and the symbols of the block."""
        # A comparison with null is null, which `all` passes over.
        words = [name for name in ("only", "symbol") if name in frame.columns]
        frame = frame.with_columns(pl.col(words).fill_null(""))
        only = self.opened.layout.only
        if only is not None and not (frame["only"] == only[1]).all():
            frame = frame.filter(pl.col("only") == only[1])
        if "symbol" not in frame.columns or frame.is_empty():
            return frame, []
        values = frame["symbol"]
        if (values == values[0]).all():
            found = [str(values[0])]
        else:
            found = [str(value) for value in values.unique(maintain_order=True).head(MOST_SYMBOLS)]
        if self.wanted is None:
            if len(found) > 1:
                line = frame.filter(values != values[0])[LINE][0]
                raise self.several(found[0], found[1], line)
            return frame, found
        spelled = pl.col("symbol").str.to_lowercase() == self.wanted.lower()
        is_all = found == [self.wanted]
        return frame if is_all else frame.filter(spelled), found

    def follow(self, found: list[str], line: int) -> None:
        """Continue with the symbols of the next block, which begins at a line."""
        if self.wanted is None and self.seen and not self.seen.issuperset(found):
            raise self.several(next(iter(self.seen)), found[0], line)
        self.seen.update(found if len(self.seen) < MOST_SYMBOLS else ())
        self.seen.update(name for name in found if name.lower() == str(self.wanted).lower())

    def several(self, first: str, other: str, line: int) -> TickDataError:
        """Return the error for a file of several symbols of which none is named."""
        return TickDataError(
            with_hint(
                f"`{self.opened.source}`, {self.opened.counted} {line}: trades of several symbols: "
                f"`{other}` after `{first}`",
                f'read one of them: symbol="{first or other}"',
            )
        )

    def check(self) -> None:
        """Refuse a file without a trade of the symbol that is wanted."""
        names = {name.lower() for name in self.seen}
        if self.wanted is None or not names or self.wanted.lower() in names:
            return
        listed = ", ".join(f"`{name}`" for name in sorted(self.seen)[:5])
        raise TickDataError(
            with_hint(
                f"`{self.opened.source}` has no trade of `{self.wanted}`; it has {listed}",
                f'name one of them: symbol="{max(self.seen, key=bool)}"',
            )
        )


def checked(frame: pl.DataFrame, opened: Opened) -> tuple[pl.DataFrame, bool]:
    """Return the raw fields in the canonical columns, and whether each row is a trade."""
    layout = opened.layout
    frame = without_tails(without_sentinels(frame, layout), amounts(layout), opened)
    if layout.contracts and not layout.quantity:
        frame = frame.with_columns(quantity=coins())
    side, is_known = taker_side(frame, layout)
    # Without a tail each decimal was found on the grid, or is large and compared with its text.
    rules = is_trade(layout, opened.unit) + (on_grid_rules(layout) if TAIL in frame.columns else [])
    sound = frame.select(pl.all_horizontal(rules).fill_null(value=False).all()).item()
    if not (sound and is_known):
        return frame, False
    columns = [time_us(opened.unit).alias(TIME), *side]
    if layout.bid:
        columns.append(mid_price(grid_units(frame["bid"]), grid_units(frame["ask"])))
    fields = {"trade_id": "id", "agg_trade_id": "id"}
    fields |= {"first_trade_id": "first_id", "last_trade_id": "last_id"}
    columns += [
        pl.col(field if field in frame.columns else "id").alias(name)
        for name, field in fields.items()
        if name in schema_of(layout)
    ]
    marks = [name for name in (LINE, TAIL) if name in frame.columns]
    return frame.with_columns(columns).select(*schema_of(layout), *marks), True


def coins() -> pl.Expr:
    """Return contracts in coins, on the grid of 1e-8."""
    price = pl.col("price")
    return (pl.col("contracts") / price * GRID).round() / (price * 0 + GRID)


def without_sentinels(frame: pl.DataFrame, layout: TradeLayout) -> pl.DataFrame:
    """Leave out rows that stand for no trade: price 0 and fills of -1."""
    if not (layout.first_id and layout.last_id and layout.price):
        return frame
    none = (pl.col("price") == 0) & (pl.col("first_id") == -1) & (pl.col("last_id") == -1)
    has_some = frame.select(none.any()).item()
    return frame.filter(~none.fill_null(value=False)) if has_some else frame


def without_tails(frame: pl.DataFrame, fields: tuple[str, ...], opened: Opened) -> pl.DataFrame:
    """Cut off the tails of decimals and mark their rows; scaled prices become decimals."""
    if opened.is_scaled:
        units = pl.col("price")
        whole = pl.when(units % 10 == 0).then(units // 10).cast(pl.Float64)
        frame = frame.with_columns(price=whole / (whole * 0 + GRID))
    off = frame.select((~has_eight_places(field)).any().alias(field) for field in fields).row(0)
    tailed = [field for field, is_off in zip(fields, off, strict=True) if is_off]
    if not tailed:
        return frame
    parts = [on_grid(frame[field]) for field in tailed]
    marks = pl.DataFrame([tails.alias(f"{at}") for at, (_, tails) in enumerate(parts)])
    tail = marks.select(pl.any_horizontal(pl.all().fill_null(value=False))).to_series().alias(TAIL)
    return frame.with_columns(*(values for values, _ in parts), tail)


def is_trade(layout: TradeLayout, unit: str) -> list[pl.Expr]:
    """Return what each row must be, apart from its side."""
    rules = [is_time(unit)]
    if layout.price:
        price = pl.col("price")
        rules.append(price.is_between(0, LARGEST, closed="right"))
    else:
        rules.append(is_quote())
    if layout.quantity or layout.contracts:
        fields = [field for field in ("quantity", "contracts") if getattr(layout, field)]
        rules += [pl.col(field).is_between(0, LARGEST) for field in fields]
    if layout.id and layout.id_kind != "text":
        rules.append(pl.col("id") >= 0)
    if layout.first_id and layout.last_id:
        rules.append(pl.col("first_id").is_between(0, pl.col("last_id")))
    if layout.buyer_maker:
        rules.append(pl.col("buyer_maker").is_not_null())
    return rules


def on_grid_rules(layout: TradeLayout) -> list[pl.Expr]:
    """Return that each decimal has eight places at most, or is large."""
    return [
        (pl.col(field).abs() >= TELLING_BELOW) | has_eight_places(field)
        for field in amounts(layout)
    ]


def is_time(unit: str) -> pl.Expr:
    """Return the condition of times between the years 2000 and 2100."""
    time = pl.col("time")
    if unit in TIME_UNITS:
        parts = TIME_UNITS[unit]
        return time.is_between(EARLIEST_S * parts, LATEST_S * parts, closed="left")
    micros = time_us(unit)
    return micros.is_between(EARLIEST_S * 10**6, LATEST_S * 10**6, closed="left")


def time_us(unit: str) -> pl.Expr:
    """Return times in microseconds since 1970."""
    time = pl.col("time")
    if unit == "s":
        return (time * 1_000_000).round().cast(pl.Int64, strict=False)
    if unit == "ns":
        return time // 1000
    if unit in TIME_UNITS:
        return time * (10**6 // TIME_UNITS[unit])
    if unit == "iso":
        plain = time.str.replace(" ", "T", literal=True)
        offset = plain.str.contains(r"(Z|[+-][0-9]{2}:?[0-9]{2})$")
        form = pl.when(offset).then(plain).otherwise(plain + "Z")
        moment = form.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%#z", time_unit="us", strict=False)
    elif "%z" in unit:
        moment = time.str.to_datetime(unit, time_unit="us", strict=False)
    else:
        moment = time.str.to_datetime(unit, time_unit="us", time_zone="UTC", strict=False)
    return moment.dt.epoch("us")


def taker_side(frame: pl.DataFrame, layout: TradeLayout) -> tuple[list[pl.Expr | pl.Series], bool]:
    """Return `is_buyer_maker`, null without an aggressor, and whether every side is a known word."""
    if layout.buyer_maker:
        return [pl.col("buyer_maker").alias("is_buyer_maker")], True
    if not layout.side:
        return [], True
    flags = seller_took(frame["side"], is_maker=layout.side_of != "taker", plain=str.strip)
    return [] if flags is None else [flags.alias("is_buyer_maker")], flags is not None
