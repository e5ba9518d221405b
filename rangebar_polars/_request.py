"""What a frame door was asked for, and the kernel's builder once it is bound to columns."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import polars as pl

from rangebar_polars import _internal
from rangebar_polars._bind import bind, judge_keys, parse_columns, parse_keys
from rangebar_polars._options import fold_options, parse_options
from rangebar_polars._signature import judge_keywords
from rangebar_polars._typing import FrameOptions
from rangebar_polars.exceptions import MissingColumnError, with_hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self, Unpack

    from rangebar_polars._bind import Inputs
    from rangebar_polars._options import Options
    from rangebar_polars._typing import ColumnMap, Features, GroupBy, KernelOptions
    from rangebar_polars.threshold import LimitLike

__all__ = ["Bound", "FrameRequest"]


@dataclass(frozen=True, slots=True)
class FrameRequest:
    """The arguments of a frame door, judged as far as that is possible without a frame."""

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
        """Request for range bars."""
        judge_keywords(arguments, FrameOptions.__annotations__)
        keys = parse_keys(group_by)
        options = parse_options(threshold, **arguments)
        judge_keys(keys, options.outputs())
        return cls(options, parse_columns(columns), keys)

    @classmethod
    def of_aggregate(cls, bar_id: str, features: Features, columns: ColumnMap | None) -> Self:
        """Request for the fold of anyone's bars."""
        if not isinstance(bar_id, str):
            raise TypeError(
                f"`bar_id` of a frame must be the name of a column; it is of type "
                f"`{type(bar_id).__name__}`"
            )
        return cls(fold_options(features), parse_columns(columns), bar_id=bar_id)

    def bind(
        self,
        schema: Mapping[str, pl.DataType],
        *,
        project: Sequence[str] | None = None,
        absolute_rows: bool = False,
    ) -> Bound:
        """Find the columns in a frame of this schema; wrong dtypes are refused here."""
        inputs = bind(list(schema), self.columns, keys=self.keys, bar_id=self.bar_id)
        dtypes = tuple(schema[name] for name in inputs.names)
        options = self.options.kernel(
            inputs.roles, inputs.names, project=project, absolute_rows=absolute_rows
        )
        return Bound(_core(options, dtypes), inputs, dtypes)

    def without_trades(self) -> _internal.Builder:
        """A kernel's builder that only serves to keep the arguments in a checkpoint."""
        roles = ("price", "timestamp")
        return _core(self.options.kernel(roles, roles), (pl.Float64(), pl.Datetime()))


def _core(options: Mapping[str, Any], dtypes: Sequence[pl.DataType]) -> _internal.Builder:
    core = _internal.Builder(json.dumps(options))
    core.bind(pl.DataFrame(schema=[(str(i), dtype) for i, dtype in enumerate(dtypes)]))
    return core


@dataclass(frozen=True, slots=True)
class Bound:
    """A kernel's builder and the columns, with their dtypes, that it takes."""

    core: _internal.Builder
    inputs: Inputs
    dtypes: tuple[pl.DataType, ...]

    def schema(self) -> pl.Schema:
        """Schema of the frames of bars."""
        return self.core.schema().schema

    def push(self, trades: pl.DataFrame) -> pl.DataFrame:
        """Bars that end in these trades, whose columns are found by name."""
        return self.push_selected(self._select(trades))

    def push_selected(self, trades: pl.DataFrame) -> pl.DataFrame:
        """Bars that end in these trades, whose columns stand in the order of `inputs`."""
        return self._ordered(self.core.push(trades))

    def finish(self) -> pl.DataFrame:
        """What follows the bars of the last push; empty if nothing does."""
        return self._ordered(self.core.finish())

    def _select(self, trades: pl.DataFrame) -> pl.DataFrame:
        present = dict(zip(trades.columns, trades.dtypes, strict=True))
        for name, dtype in zip(self.inputs.names, self.dtypes, strict=True):
            if name not in present:
                raise MissingColumnError(
                    f"the frame has no column `{name}`, which the first push had; it has "
                    f"{', '.join(f'`{column}`' for column in present) or 'none'}"
                )
            if present[name] != dtype:
                raise TypeError(
                    with_hint(
                        f"column `{name}` is of type `{present[name]}`, but it was `{dtype}` in "
                        "the first push",
                        f'cast it: pl.col("{name}").cast(pl.{dtype!r})',
                    )
                )
        names = enumerate(self.inputs.names)
        return pl.DataFrame([trades.get_column(name).alias(str(i)) for i, name in names])

    def _ordered(self, bars: pl.DataFrame) -> pl.DataFrame:
        """The same frame, which says that `close_time` does not decrease where that is so."""
        if "key" not in self.inputs.roles and "close_time" in bars.columns:
            times = bars.get_column("close_time").set_sorted()
            bars.replace_column(bars.get_column_index("close_time"), times)
        return bars
