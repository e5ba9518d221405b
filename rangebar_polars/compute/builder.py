"""Range bars of trades as they arrive, with checkpoints."""

from __future__ import annotations

import json
from dataclasses import replace
from os import PathLike
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from rangebar_polars import _internal
from rangebar_polars._utils.arguments.keywords import keywords_of
from rangebar_polars.catalogue import column_names
from rangebar_polars.compute._dtypes import decode_dtype, encode_dtype
from rangebar_polars.compute._request import FrameRequest
from rangebar_polars.compute.frame import bars_frame
from rangebar_polars.distance import Distance
from rangebar_polars.exceptions import CheckpointError, with_hint
from rangebar_polars.interop.pandas_frames import frame_from_pandas, is_pandas

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self, Unpack

    from rangebar_polars._typing import FrameOptions
    from rangebar_polars.compute._request import Bound
    from rangebar_polars.threshold import LimitLike

__all__ = ["RangeBarBuilder", "StoredTicksBuilder"]

_FORMAT = 1
# Raised by the JSON parser and by the checks of the arguments.
_HEADER_ERRORS = (
    AttributeError,
    LookupError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    pl.exceptions.PolarsError,
)


class RangeBarBuilder:
    """Incremental builder of range bars.

    How the trades are split between pushes makes no difference to the bars. A push that raises
    changes nothing. Threads may share a builder: pushes run one after another, in any order.

    Parameters
    ----------
    threshold
        As for `trades.rangebar.bars`.
    **arguments
        The keywords of `trades.rangebar.bars`.

    Examples
    --------
    >>> from datetime import datetime
    >>> import polars as pl
    >>> import rangebar_polars as rb
    >>> trades = pl.DataFrame(
    ...     {
    ...         "timestamp": [datetime(2024, 1, 1, 0, 0, second) for second in range(5)],
    ...         "price": [100.0, 100.1, 100.25, 100.3, 100.2],
    ...     }
    ... )
    >>> builder = rb.RangeBarBuilder(threshold=250)
    >>> builder.push(trades.head(2)).height
    0
    >>> saved = builder.checkpoint()
    >>> builder = rb.RangeBarBuilder.from_checkpoint(saved)
    >>> builder.push(trades.tail(3)).select("bar_id", "open", "close")
    shape: (1, 3)
    ┌────────┬───────┬────────┐
    │ bar_id ┆ open  ┆ close  │
    │ ---    ┆ ---   ┆ ---    │
    │ u32    ┆ f64   ┆ f64    │
    ╞════════╪═══════╪════════╡
    │ 0      ┆ 100.0 ┆ 100.25 │
    └────────┴───────┴────────┘
    >>> builder.partial().select("bar_id", "open", "close", "is_closed")
    shape: (1, 4)
    ┌────────┬───────┬───────┬───────────┐
    │ bar_id ┆ open  ┆ close ┆ is_closed │
    │ ---    ┆ ---   ┆ ---   ┆ ---       │
    │ u32    ┆ f64   ┆ f64   ┆ bool      │
    ╞════════╪═══════╪═══════╪═══════════╡
    │ 1      ┆ 100.3 ┆ 100.2 ┆ false     │
    └────────┴───────┴───────┴───────────┘
    """

    #: Whether pushes warn of fills that two records count.
    _watches_fills: ClassVar[bool] = True
    #: Whether pushes warn of look-back windows that were cut.
    _watches_windows: ClassVar[bool] = True

    @keywords_of(bars_frame)
    def __init__(
        self,
        threshold: LimitLike | Sequence[LimitLike],
        **arguments: Unpack[FrameOptions],
    ) -> None:
        self._request = FrameRequest.of_bars(threshold, **arguments)
        # Empty until a push is accepted. `setdefault` decides between concurrent first pushes.
        self._first: dict[str, Bound] = {}

    @property
    def _bound(self) -> Bound | None:
        return self._first.get("bound")

    def push(self, trades: pl.DataFrame) -> pl.DataFrame:
        """Add trades and return the bars that end in them, in order.

        If no bar ends, the frame is empty. The first push fixes which columns are read, and their
        data types. With `incomplete="keep"` the result includes bars that a reset or a gap ended.

        Raises
        ------
        TickDataError
            A trade has an invalid value or, as TickOrderError, is out of order. The state is
            unchanged.
        StateLimitError
            There are too many keys for this number of thresholds. The state is unchanged.
        BuilderForkedError
            Another thread was using the builder when this process was forked.
        TypeError
            A column has an unsupported data type, or not the one that it had in the first push.
        """
        if is_pandas(trades):
            trades = frame_from_pandas(trades)
        if not isinstance(trades, pl.DataFrame):
            sentence = (
                f"`push` takes a DataFrame of Polars or pandas; it was given a "
                f"`{type(trades).__name__}`"
            )
            raise TypeError(with_hint(sentence, _push_hint(trades)))
        bound = self._bound
        if bound is None:
            own = self._watched(
                self._request.bind(trades.schema, trades=trades, watch_fills=self._watches_fills)
            )
            bars = own.push(trades)
            bound = self._first.setdefault("bound", own)
            if bound is own:
                return bars
            # Another thread pushed first: these trades follow its trades.
        return bound.push(trades)

    def _watched(self, bound: Bound) -> Bound:
        """Return a builder that warns of cut windows only if this class does."""
        return bound if self._watches_windows else replace(bound, has_limit=False)

    def partial(self) -> pl.DataFrame:
        """Return the forming bars, with `is_closed` and `ended_by`.

        Before the first push the frame is empty. Its times are then in UTC, to the microsecond, and
        its keys are text, as the types of the trades are not known yet.

        Examples
        --------
        >>> import rangebar_polars as rb
        >>> builder = rb.RangeBarBuilder(250)
        >>> before = builder.partial()
        >>> _ = builder.push(rb.sample_ticks())
        >>> before.height, before.schema == builder.partial().schema
        (0, True)
        """
        bound = self._bound
        return self._request.no_partial() if bound is None else bound.core.partial()

    def checkpoint(self) -> bytes:
        """Return the state as bytes. Equal states give equal bytes."""
        return self._checkpoint(self._arguments())

    def _plain_checkpoint(self) -> bytes:
        """Return the checkpoint of a builder of the same trades without computed columns.

        Its bytes do not depend on `lookback`, nor on the groups "lookback", "intrabar" and
        "extended".
        """
        arguments = self._arguments()
        arguments.pop("lookback", None)
        stays = column_names().groups["microstructure"]
        arguments["features"] = [name for name in arguments["features"] if name in stays]
        return self._checkpoint(arguments, plain=True)

    def _checkpoint(self, arguments: Mapping[str, Any], *, plain: bool = False) -> bytes:
        bound = self._bound
        header = {
            "format": _FORMAT,
            "arguments": arguments,
            "bound": None if bound is None else _columns_of(bound),
        }
        core = self._request.without_trades() if bound is None else bound.core
        return core.checkpoint(json.dumps(header, sort_keys=True, separators=(",", ":")), plain)

    @classmethod
    def from_checkpoint(cls, data: bytes) -> Self:
        """Create a builder that resumes from a checkpoint.

        Raises
        ------
        CheckpointError
            The bytes are not a checkpoint, or were altered.

        Examples
        --------
        >>> import rangebar_polars as rb
        >>> rb.RangeBarBuilder.from_checkpoint(rb.RangeBarBuilder("medium").checkpoint())
        RangeBarBuilder(threshold=250)
        """
        if not isinstance(data, (bytes, bytearray, memoryview)):
            sentence = f"a checkpoint is bytes, not `{type(data).__name__}`"
            if isinstance(data, (str, PathLike)):
                hint = "read the file: rb.RangeBarBuilder.from_checkpoint(Path(path).read_bytes())"
            else:
                hint = "pass the bytes that `checkpoint()` returned"
            raise CheckpointError(with_hint(sentence, hint))
        state = bytes(data)
        header = _internal.read_checkpoint(state)
        try:
            self = cls._from_header(json.loads(header))
        except _HEADER_ERRORS as e:
            raise CheckpointError(f"the header of the checkpoint cannot be read: {e}") from e
        bound = self._bound
        core = self._request.without_trades() if bound is None else bound.core
        rows = core.restore(state)
        if bound is None and rows:
            raise CheckpointError(f"the checkpoint counts {rows} rows but names no columns")
        return self

    @classmethod
    def _from_header(cls, header: dict[str, Any]) -> Self:
        if header["format"] != _FORMAT:
            raise ValueError(f"it has format {header['format']}; this version reads {_FORMAT}")
        arguments = dict(header["arguments"])
        arguments["threshold"] = _decode_limits(arguments["threshold"])
        self = cls(**arguments)
        bound = header["bound"]
        if bound is not None:
            dtypes = map(decode_dtype, bound["dtypes"])
            schema = dict(zip(bound["names"], dtypes, strict=True))
            own = self._watched(
                self._request.bind(schema, warns=False, watch_fills=cls._watches_fills)
            )
            if _columns_of(own) != bound:
                raise ValueError("its columns do not fit its arguments")
            self._first["bound"] = own
        return self

    def _arguments(self) -> dict[str, Any]:
        request = self._request
        arguments = request.options.arguments()
        return {
            **arguments,
            "threshold": _encode_limits(arguments["threshold"]),
            "group_by": list(request.keys) or None,
            "columns": dict(request.columns) or None,
        }

    def __reduce__(self) -> tuple[Callable[[bytes], RangeBarBuilder], tuple[bytes]]:
        """Return a form in which copies and pickles have a state of their own."""
        return type(self).from_checkpoint, (self.checkpoint(),)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._request.describe()})"


class StoredTicksBuilder(RangeBarBuilder):
    """A builder for ticks of the tick store, which counted their repeated fills when it took them.

    It does not warn of look-back windows either: one read or population pushes many times.
    """

    _watches_fills = False
    _watches_windows = False

    def hand_over(self) -> tuple[_internal.Builder, str, str]:
        """Return the kernel's builder, bound to the columns of stored trades.

        The texts are the headers of its checkpoints, now and once trades are pushed. This object must
        not be used any more.
        """
        # Whoever imports the package does not need the sources.
        from rangebar_polars.sources import TRADES_SCHEMA

        before = _internal.read_checkpoint(self.checkpoint())
        self.push(TRADES_SCHEMA.to_frame())
        after = _internal.read_checkpoint(self.checkpoint())
        return self._first["bound"].core, before, after

    def bars_state(self) -> bytes:
        """Return the checkpoint of a builder of the same trades with core and microstructure."""
        arguments = self._arguments()
        arguments.pop("lookback", None)
        arguments["features"] = list(column_names().groups["microstructure"])
        return self._checkpoint(arguments, plain=True)

    def bars_digest(self) -> str:
        """Return a hash of the forming bars and of all that decides the next ones."""
        bound = self._bound
        core = self._request.without_trades() if bound is None else bound.core
        return core.bars_digest()


def _push_hint(trades: object) -> str:
    if isinstance(trades, pl.LazyFrame):
        return "collect it, or compute its bars in bounded memory: lf.rangebar.bars(250)"
    if isinstance(trades, dict):
        return "make a frame of it: builder.push(pl.DataFrame([trade]))"
    if isinstance(trades, list):
        return "make a frame of them: builder.push(pl.DataFrame(trades))"
    return "pass a frame with the columns `timestamp` and `price`"


def _encode_limits(limits: Any) -> Any:  # noqa: ANN401
    """Return thresholds or distances in a form for JSON."""
    if isinstance(limits, list):
        return [_encode_limits(limit) for limit in limits]
    return {"distance": str(limits)} if isinstance(limits, Distance) else limits


def _decode_limits(limits: Any) -> Any:  # noqa: ANN401
    if isinstance(limits, list):
        return [_decode_limits(limit) for limit in limits]
    return Distance(limits["distance"]) if isinstance(limits, dict) else limits


def _columns_of(bound: Bound) -> dict[str, Any]:
    return {
        "names": list(bound.inputs.names),
        "roles": list(bound.inputs.roles),
        "dtypes": [encode_dtype(dtype) for dtype in bound.dtypes],
    }
