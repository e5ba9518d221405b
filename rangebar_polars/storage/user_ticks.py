"""Validation of a user's ticks, and their conversion to the schema of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import polars as pl

from rangebar_polars.compute._columns import SYMBOL, bind
from rangebar_polars.compute._request import FrameRequest
from rangebar_polars.day_ticks import is_strictly_increasing
from rangebar_polars.exceptions import (
    MissingColumnError,
    TickDataError,
    TickOrderError,
    split_hint,
    with_hint,
)
from rangebar_polars.interop.pandas_frames import column, is_pandas, trades_from_pandas
from rangebar_polars.sources import (
    LONGEST_STEP_BACK_US,
    QUOTES,
    TRADES,
    USER_TRADES,
    IdScheme,
    has_contracts,
    schema_of,
    source_named,
    stored_schema_of,
)
from rangebar_polars.storage.days.contracts import CONTRACTS, in_coins, is_in_contracts
from rangebar_polars.storage.days.merge_by_time import conflict, in_order_of_times
from rangebar_polars.storage.id_kinds import ID, id_names, text_id_column, text_ids
from rangebar_polars.trade_layouts.sides import seller_took
from rangebar_polars.trade_layouts.table import BUY, NO_SIDE, SELL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd

    from rangebar_polars.storage.layout import SymbolDir

__all__ = ["UserTicks", "check_tick_values", "in_order_of_ids", "raised_times", "user_ticks"]

TIME = "timestamp"
# The last instant whose year has four digits, in microseconds since 1970.
LATEST_US = 253_402_300_799_999_999
_SIDE_DTYPES = (pl.String, pl.Categorical, pl.Enum)
ID_HINTS = {
    IdScheme.CHAIN: "the store uses the ids to prove that no tick is missing; ticks of a source of your "
    'own need none: source="my_venue"',
    IdScheme.MONTHLY: "number the quotes of a month: (100 · year + month) · 10⁸ + row",
}


@dataclass(frozen=True, slots=True)
class UserTicks:
    """Valid ticks of a user in the order of their ids, and counts of what was corrected."""

    ticks: pl.DataFrame
    duplicates: int = 0
    moved: int = 0
    #: Ids of the rows whose time was raised.
    raised: tuple[int, ...] = ()


def user_ticks(frame: object, symbol_dir: SymbolDir) -> UserTicks:
    """Validate a user's frame, and convert it to the columns and dtypes of the store.

    Raises
    ------
    MissingColumnError
        The time, the price or the id is missing.
    TypeError
        The value is not a frame, or a column has a dtype that cannot be stored without loss.
    TickDataError
        A row is not a valid tick, or two different rows have the same id.
    TickOrderError
        In the order of the ids, time runs back by more than a second.
    """
    source = symbol_dir.source
    ticks = _columns(_polars_frame(frame, source), source, symbol_dir.market)
    if ticks.is_empty():
        return UserTicks(ticks)
    check_tick_values(ticks)
    if is_in_contracts(symbol_dir, ticks.columns):
        ticks = in_coins(symbol_dir, ticks)
    if ID not in ticks.columns:
        return UserTicks(*in_order_of_times(ticks))
    ordered = in_order_of_ids(ticks)
    times = raised_times(ordered.ticks)
    return UserTicks(times.ticks, ordered.duplicates, ordered.moved, times.raised)


def _polars_frame(frame: object, source: str) -> pl.DataFrame:
    if isinstance(frame, pl.DataFrame):
        return frame
    if isinstance(frame, pl.LazyFrame):
        return frame.collect()
    if not is_pandas(frame):
        raise TypeError(
            with_hint(
                f"`ticks` must be a frame; it is of type `{type(frame).__name__}`",
                "pass a Polars or a pandas frame",
            )
        )
    kind = source_named(source).ticks
    if kind is TRADES:
        trades = trades_from_pandas(frame)
        if CONTRACTS in frame.columns:
            return trades.with_columns(column("quantity", CONTRACTS, frame[CONTRACTS]))
        return trades
    if kind is USER_TRADES:
        return _with_text_ids(trades_from_pandas(frame), frame)
    labels: list[object] = list(frame.columns)
    names = [name for name in schema_of(source).names() if name in labels]
    return pl.DataFrame([column(name, name, frame[name]) for name in names])


def _with_text_ids(trades: pl.DataFrame, frame: pd.DataFrame) -> pl.DataFrame:
    """Add the columns of a pandas frame that may hold ids as texts."""
    names = [str(name) for name in frame.columns if name not in trades.columns]
    return trades.with_columns(column(ID, name, frame[name]) for name in id_names(names))


def _columns(frame: pl.DataFrame, source: str, market: str) -> pl.DataFrame:
    """Select the columns of the store's schema, and cast them to its dtypes."""
    present = _named(frame, source)
    if has_contracts(source, market) and CONTRACTS in frame.columns:
        present = present.with_columns(frame.get_column(CONTRACTS))
    for name in source_named(source).ticks.required:
        if name not in present.columns:
            error = MissingColumnError.of(name, frame.columns, used_for=name)
            if name == ID:
                sentence = str(error).partition("\n")[0]
                raise MissingColumnError(with_hint(sentence, _id_hint(frame, source)))
            raise error
    schema = stored_schema_of(source)
    return present.select(
        _cast(present.get_column(name), dtype)
        for name, dtype in schema.items()
        if name in present.columns
    )


def _id_hint(frame: pl.DataFrame, source: str) -> str:
    """Return the hint for a frame without ids."""
    present = id_names(frame.columns)
    if not present:
        return ID_HINTS[source_named(source).ids]
    name, dtype = present[0], frame.schema[present[0]]
    if dtype.is_integer():
        return f'rename it: .rename({{"{name}": "{ID}"}})'
    return (
        f"`{name}` is `{dtype}`, and ids of this source are whole numbers: "
        f'.with_columns({ID}=pl.col("{name}").cast(pl.Int64))'
    )


def _named(frame: pl.DataFrame, source: str) -> pl.DataFrame:
    if source_named(source).ticks is QUOTES:
        names = set(frame.columns)
        if "price" not in names and {"bid", "ask"} <= names:
            mid = ((pl.col("bid") + pl.col("ask")) / 2).round(8)
            frame = frame.with_columns(price=mid)
        return frame.select(name for name in schema_of(source).names() if name in frame.columns)
    inputs = bind(frame.schema, {SYMBOL: None})
    roles = dict(zip(inputs.roles, inputs.names, strict=True))
    if source_named(source).ticks is USER_TRADES:
        return _named_trades(frame, roles)
    return _renamed(frame, roles)


def _named_trades(frame: pl.DataFrame, roles: dict[str, str]) -> pl.DataFrame:
    """Select the columns of trades of a user source, whose ids may be texts or absent."""
    number = roles.get(ID)
    if number is not None and not frame.schema[number].is_integer():
        del roles[ID]
    named = _renamed(frame, roles)
    text = None if ID in roles else text_id_column(frame.schema)
    return named if text is None else named.with_columns(text_ids(frame.get_column(text)))


def _renamed(frame: pl.DataFrame, roles: dict[str, str]) -> pl.DataFrame:
    """Select columns under the names of the store, which holds a side as `is_buyer_maker`."""
    columns = {role: frame.get_column(name) for role, name in roles.items()}
    if "side" in columns:
        columns["is_buyer_maker"] = _buyer_is_maker(columns.pop("side"))
    return frame.select(values.alias(role) for role, values in columns.items())


def _buyer_is_maker(side: pl.Series) -> pl.Series:
    """Convert sides of the taker; null where there was none."""
    if not (side.dtype.is_integer() or isinstance(side.dtype, _SIDE_DTYPES)):
        sentence = f"column `{side.name}` is of type `{side.dtype}`, which cannot hold a side"
        hint = 'write the side of the taker as "buy", "sell" or "none"'
        raise TypeError(with_hint(sentence, hint))
    flags = seller_took(side)
    if flags is not None:
        return flags
    words = side.cast(pl.String).str.to_lowercase()
    row = int((~words.fill_null("").is_in(list(BUY | SELL | NO_SIDE))).arg_true()[0])
    raise TickDataError(
        with_hint(
            f"row {row}: `{side.name}` is `{side[row]}`, which is not a side",
            'recode it first: the side of the taker is "buy", "sell" or "none"',
        )
    )


def _cast(values: pl.Series, dtype: pl.DataType) -> pl.Series:
    if isinstance(dtype, pl.Datetime):
        return _instants(values)
    if dtype == pl.String():
        return values
    kinds = {pl.Boolean(): values.dtype == pl.Boolean(), pl.Int64(): values.dtype.is_integer()}
    if not kinds.get(dtype, values.dtype.is_numeric()):
        raise TypeError(
            with_hint(
                f"column `{values.name}` must be `{dtype}`; it is `{values.dtype}`",
                f'cast it first: pl.col("{values.name}").cast(pl.{dtype})',
            )
        )
    try:
        return values.cast(dtype)
    except pl.exceptions.InvalidOperationError as error:
        raise TickDataError(f"column `{values.name}` does not fit `{dtype}`: {error}") from error


def _instants(values: pl.Series) -> pl.Series:
    """Convert times to microseconds in UTC. Times without a zone are taken as UTC."""
    dtype = values.dtype
    if not isinstance(dtype, pl.Datetime):
        raise _wrong_times(values)
    zoned = (
        values.dt.replace_time_zone("UTC")
        if dtype.time_zone is None
        else values.dt.convert_time_zone("UTC")
    )
    exact = zoned.dt.cast_time_unit("us")
    if dtype.time_unit == "ns" and not (exact.dt.cast_time_unit("ns") == zoned).all():
        raise TickDataError(
            with_hint(
                f"column `{values.name}` has fractions of a microsecond, which the store cannot hold",
                f'truncate them: pl.col("{values.name}").dt.cast_time_unit("us")',
            )
        )
    return exact


def _wrong_times(values: pl.Series) -> TypeError:
    """Return the error for times of another data type, with the unit that the values show."""
    name, dtype = values.name, values.dtype
    sentence = f"column `{name}` must be a Datetime; it is `{dtype}`"
    request = FrameRequest.of_bars(250, columns={"timestamp": name, "price": "price"})
    frame = values.to_frame().with_columns(price=1.0)
    try:
        request.bind(frame.schema, trades=frame, warns=False)
    except TypeError as error:
        _, hint = split_hint(error)
        return TypeError(with_hint(sentence, hint))
    return TypeError(sentence)


def check_tick_values(ticks: pl.DataFrame) -> None:
    """Raise if any row is not a valid tick, with the number of the first one."""
    faults = list(_faults(ticks.columns))
    found = ticks.select(bad.any().alias(str(i)) for i, (_, _, bad) in enumerate(faults)).row(0)
    for is_found, (name, fault, bad) in zip(found, faults, strict=True):
        if is_found:
            raise _invalid_row(ticks, name, fault, bad)


def _faults(columns: Sequence[str]) -> Iterator[tuple[str, str, pl.Expr]]:
    """Yield each possible fault of a row: its column, its description, and its test."""
    present = {name: pl.col(name) for name in columns}
    for name, values in present.items():
        # Without a value, there was no aggressor.
        if name != "is_buyer_maker":
            yield name, "null", values.is_null()
    for name in present.keys() & {"price", "bid", "ask"}:
        sane = present[name].is_finite() & (present[name] > 0)
        yield name, "not a finite number above 0", ~sane
    for name in present.keys() & {"quantity", CONTRACTS}:
        quantity = present[name]
        yield (
            name,
            "not a finite number, 0 or above",
            ~(quantity.is_finite() & (quantity >= 0)),
        )
    for low, high in (("bid", "ask"), ("first_trade_id", "last_trade_id")):
        if present.keys() >= {low, high}:
            yield high, f"below its {low}", present[high] < present[low]
    if ID in present:
        yield ID, "below 0", present[ID] < 0
    outside = ~present[TIME].to_physical().is_between(0, LATEST_US)
    yield TIME, "before 1970 or after 9999", outside


def _invalid_row(ticks: pl.DataFrame, name: str, fault: str, bad: pl.Expr) -> TickDataError:
    rows = ticks.select(bad.arg_true()).to_series()
    row = int(rows[0])
    value = ticks.get_column(name)[row]
    found = f"`{value}`, which is {fault}" if value is not None else fault
    return TickDataError(
        with_hint(
            f"row {row}: `{name}` is {found}",
            f"{len(rows):,} of {ticks.height:,} rows have this fault; drop or correct them first",
        )
    )


def in_order_of_ids(ticks: pl.DataFrame) -> UserTicks:
    """Sort ticks by id and drop exact duplicates.

    Raises
    ------
    TickDataError
        Two different rows have the same id.
    """
    ids = ticks.get_column(ID)
    if is_strictly_increasing(ids):
        return UserTicks(ticks)
    moved = int((ids < ids.cum_max()).sum())
    ordered = ticks.sort(ID, maintain_order=True)
    single = ordered.unique(maintain_order=True, keep="first")
    if not is_strictly_increasing(single.get_column(ID)):
        number = single.filter(pl.col(ID).is_duplicated()).get_column(ID)[0]
        raise conflict(ID, ordered.filter(pl.col(ID) == number))
    return UserTicks(single, duplicates=ordered.height - single.height, moved=moved)


def raised_times(ticks: pl.DataFrame) -> UserTicks:
    """Raise each time that runs back by at most a second to the highest time before it.

    Raises
    ------
    TickOrderError
        A time runs back by more than a second.
    """
    times = ticks.get_column(TIME)
    if times.is_sorted():
        return UserTicks(ticks)
    highest = times.cum_max()
    behind = (highest - times).to_physical()
    if (behind > LONGEST_STEP_BACK_US).any():
        row = ticks.filter(behind > LONGEST_STEP_BACK_US).row(0, named=True)
        raise TickOrderError(
            with_hint(
                f"in the order of {ID}, the time of tick `{row[ID]}` runs back by more than a "
                f"second, to `{row[TIME]}`",
                "a higher id belongs to a later tick; check both columns",
            )
        )
    return UserTicks(
        ticks.with_columns(highest), raised=tuple(ticks.filter(behind > 0).get_column(ID))
    )
