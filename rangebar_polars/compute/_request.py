"""Arguments of the functions for frames, and the kernel's builder once they are bound to columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars import _internal
from rangebar_polars._typing import FrameOptions
from rangebar_polars._utils.arguments.durations import cut_text
from rangebar_polars._utils.arguments.keywords import check_keywords
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.compute._columns import SYMBOL, bind, check_keys, parse_columns, parse_keys
from rangebar_polars.compute._options import fold_options, parse_options
from rangebar_polars.compute._pieces import SymbolCodes, in_pieces
from rangebar_polars.exceptions import (
    DoubleFillWarning,
    FeatureWarning,
    MissingColumnError,
    TickDataError,
    with_hint,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Self, Unpack

    from rangebar_polars._typing import (
        ColumnMap,
        ContractSize,
        Features,
        GroupBy,
        KernelOptions,
        Lookback,
    )
    from rangebar_polars.compute._columns import Inputs
    from rangebar_polars.compute._options import Options
    from rangebar_polars.threshold import LimitLike

__all__ = ["Bound", "FrameRequest"]


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """Arguments of a function for frames, checked as far as possible without a frame."""

    options: Options
    columns: Mapping[str, str | None]
    keys: tuple[str, ...] = ()
    bar_id: str | None = None

    @classmethod
    def of_bars(
        cls,
        threshold: LimitLike | Sequence[LimitLike],
        *,
        group_by: GroupBy | None = None,
        columns: ColumnMap | None = None,
        **arguments: Unpack[KernelOptions],
    ) -> Self:
        """Check the arguments for range bars."""
        check_keywords(arguments, FrameOptions.__annotations__)
        keys = parse_keys(group_by)
        options = parse_options(threshold, **arguments)
        check_keys(keys)
        return cls(options, parse_columns(columns), keys)

    @classmethod
    def of_aggregate(
        cls,
        bar_id: str,
        columns: ColumnMap | None,
        *,
        features: Features,
        side_is: str,
        contract_size: ContractSize | None,
        lookback: Lookback | None = None,
    ) -> Self:
        """Check the arguments for bars that the caller numbered."""
        if not isinstance(bar_id, str):
            sentence = (
                f"`bar_id` of a frame must be the name of a column; it is of type "
                f"`{type(bar_id).__name__}`"
            )
            hint = "add the ids as a column first, with `with_columns`, and pass its name"
            raise TypeError(with_hint(sentence, hint))
        options = fold_options(features, side_is, contract_size, lookback)
        return cls(options, parse_columns(columns), bar_id=bar_id)

    def describe(self) -> str:
        """List the arguments that differ from the defaults, for query plans and `repr`."""
        facts = [] if self.bar_id is None else [f"bar_id={self.bar_id!r}"]
        facts.append(self.options.describe())
        facts += [f"group_by={list(self.keys)}"] if self.keys else []
        return ", ".join(filter(None, facts))

    def bind(
        self,
        schema: Mapping[str, pl.DataType],
        *,
        project: Sequence[str] | None = None,
        absolute_rows: bool = False,
        warns: bool = True,
        trades: pl.DataFrame | None = None,
        watch_fills: bool = True,
    ) -> Bound:
        """Find the columns in a frame of this schema and check their data types.

        Where the frame itself is at hand, an error names the unit that its times show.
        """
        inputs = bind(schema, self.columns, keys=self.keys, bar_id=self.bar_id)
        if self.options.contract_size is not None and "quantity" not in inputs.roles:
            raise _without_quantity(schema)
        for name in inputs.names:
            if schema[name] == pl.Object:
                raise _of_objects(name)
        dtypes = tuple(schema[name] for name in inputs.names)
        options = self.options.kernel(
            inputs.roles, inputs.names, project=project, absolute_rows=absolute_rows
        )
        options.update(apart=list(inputs.apart), watch_fills=watch_fills)
        times = None
        if trades is not None and not isinstance(schema[inputs.of("timestamp")], pl.Datetime):
            times = trades.get_column(inputs.of("timestamp")).drop_nulls().head(1)
        codes = SymbolCodes(inputs.roles, inputs.names, dtypes)
        window = self.options.lookback
        has_limit = window is not None and window.kind != "records"
        core = _core(options, codes.dtypes, times)
        bound = Bound(core, inputs, dtypes, codes, has_limit)
        if warns and not _is_whole(inputs.roles):
            self._warn(schema)
        return bound

    def _warn(self, schema: Mapping[str, pl.DataType]) -> None:
        from rangebar_polars.compute.binding import warn_of_unbound

        warn_of_unbound(schema, self.columns, keys=self.keys, bar_id=self.bar_id)

    def bind_again(self, bound: Bound, schema: Mapping[str, pl.DataType]) -> Bound:
        """Continue from the state of `bound` with columns of other data types."""
        rebound = self.bind(schema, absolute_rows=True, warns=False)
        rebound.core.restore(bound.core.checkpoint("{}"))
        return rebound

    def without_trades(self) -> _internal.Builder:
        """Return a kernel's builder without columns, for a checkpoint before the first push."""
        roles = ("price", "timestamp")
        return _core(self.options.kernel(roles, roles), (pl.Float64(), pl.Datetime()))

    def no_partial(self) -> pl.DataFrame:
        """Return an empty frame of forming bars, for times in UTC and keys that are text."""
        roles = ("price", "timestamp", *("key" for _ in self.keys))
        options = self.options.kernel(roles, ("price", "timestamp", *self.keys))
        dtypes = (pl.Float64(), pl.Datetime("us", "UTC"), *(pl.String() for _ in self.keys))
        return _core(options, dtypes).partial()


def _without_quantity(schema: Mapping[str, pl.DataType]) -> MissingColumnError:
    listed = ", ".join(f"`{name}`" for name in schema)
    return MissingColumnError(
        with_hint(
            "`contract_size` converts the quantity, but no column is recognised as `quantity`; "
            f"the frame has {listed}",
            'name it: columns={"quantity": "..."}, or leave `contract_size` out',
        )
    )


def _of_objects(name: str) -> TypeError:
    column = json.dumps(name)
    return TypeError(
        with_hint(
            f"`{name}` holds Python objects, not values of one data type",
            f"convert it: trades.with_columns(pl.Series({column}, trades[{column}].to_list()))",
        )
    )


def _is_whole(roles: Sequence[str]) -> bool:
    """Tell whether quantity and aggressor are bound."""
    return "quantity" in roles and ("is_buyer_maker" in roles or "side" in roles)


def _core(
    options: Mapping[str, Any], dtypes: Sequence[pl.DataType], times: pl.Series | None = None
) -> _internal.Builder:
    core = _internal.Builder(json.dumps(options))
    core.bind(pl.DataFrame(schema=[(str(i), dtype) for i, dtype in enumerate(dtypes)]), times)
    return core


@dataclass(frozen=True)
class Bound:
    """A kernel's builder with the columns that it takes and their data types."""

    core: _internal.Builder
    inputs: Inputs
    dtypes: tuple[pl.DataType, ...]
    codes: SymbolCodes
    #: Whether a look-back window may be cut to the limit of records.
    has_limit: bool = False

    def schema(self) -> pl.Schema:
        """Return the schema of the frames of bars."""
        return self.core.schema().schema

    def empty(self) -> pl.DataFrame:
        """Return a frame without bars."""
        return self._empty.clone()

    def columns(self, trades: pl.DataFrame) -> list[pl.Series]:
        """Select the columns of these trades by name, in the order of `inputs`."""
        try:
            return [trades.get_column(name) for name in self.inputs.names]
        except pl.exceptions.ColumnNotFoundError:
            present = trades.columns
            roles = dict(zip(self.inputs.names, self.inputs.roles, strict=True))
            absent = [name for name in self.inputs.names if name not in present]
            if all(roles[name] == SYMBOL for name in absent):
                # It is only checked, so that later pushes may be without it.
                return self.columns(trades.with_columns(self._without_symbols(absent)))
            missing = next(name for name in absent if roles[name] != SYMBOL)
            raise MissingColumnError(
                f"the frame has no column `{missing}`, which the first push had; it has "
                f"{', '.join(f'`{column}`' for column in present) or 'none'}"
            ) from None

    def _without_symbols(self, names: Sequence[str]) -> list[pl.Expr]:
        dtypes = dict(zip(self.inputs.names, self.dtypes, strict=True))
        return [pl.lit(None, dtype=dtypes[name]).alias(name) for name in names]

    def push(self, trades: pl.DataFrame) -> pl.DataFrame:
        """Add trades, whose columns are found by name, and return the bars that end in them.

        The builder may be shared. No Python code runs while the kernel holds it, because a signal
        handler could use the same builder.
        """
        columns = self.columns(trades)
        bars = self._push(columns, tuple(in_pieces(self._encoded(columns))))
        self._warn_of_cut_windows()
        return self.empty() if bars is None else bars

    def push_columns(self, columns: Sequence[pl.Series]) -> pl.DataFrame | None:
        """Add columns in the order of `inputs` and return the bars that end; None if none ends.

        The builder must not be shared: chunks are copied one at a time while the kernel runs.
        """
        return self._push(columns, in_pieces(self._encoded(columns)))

    def finish(self) -> pl.DataFrame | None:
        """Return the bars that the end of the input adds; None if there are none."""
        bars = self.core.finish()
        self._warn_of_cut_windows()
        return None if bars is None else self._ordered(bars)

    def _push(
        self, columns: Sequence[pl.Series], pieces: Iterable[Sequence[pl.Series]]
    ) -> pl.DataFrame | None:
        try:
            bars = self.core.push(pieces)
        except TypeError:
            self._require_dtypes(columns)
            raise
        except TickDataError as error:
            message = self.codes.reword(str(error), columns)
            if message == str(error):
                raise
            raise type(error)(message) from None
        self.codes.note(columns)
        if self._has_fills and (text := self.core.double_fill()) is not None:
            warn_caller(text, DoubleFillWarning)
        return None if bars is None else self._ordered(bars)

    def _encoded(self, columns: Sequence[pl.Series]) -> Sequence[pl.Series]:
        if not self.codes.is_used:
            return columns
        # Codes of other categories would pass for those of the first push.
        self._require_dtypes(columns)
        return self.codes.encoded(columns)

    def _warn_of_cut_windows(self) -> None:
        if self.has_limit and (count := self.core.cut_windows()):
            warn_caller(cut_text(count), FeatureWarning)

    @cached_property
    def _has_fills(self) -> bool:
        return {"first_trade_id", "last_trade_id"} <= {*self.inputs.roles}

    @cached_property
    def _empty(self) -> pl.DataFrame:
        return self._ordered(self.core.schema())

    def _require_dtypes(self, columns: Sequence[pl.Series]) -> None:
        for name, dtype, column in zip(self.inputs.names, self.dtypes, columns, strict=True):
            if column.dtype != dtype:
                raise TypeError(
                    with_hint(
                        f"column `{name}` is of type `{column.dtype}`, but it was `{dtype}` in "
                        "the first push",
                        f'cast it: pl.col("{name}").cast(pl.{dtype!r})',
                    )
                )

    def _ordered(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Mark `close_time` as sorted in bars without keys."""
        if "key" not in self.inputs.roles and "close_time" in bars.columns:
            times = bars.get_column("close_time").set_sorted()
            bars.replace_column(bars.get_column_index("close_time"), times)
        return bars
