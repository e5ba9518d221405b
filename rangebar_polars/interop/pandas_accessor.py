"""What a pandas frame answers to `df.rangebar`: how to get at the bars."""

from __future__ import annotations

import sys

from rangebar_polars.exceptions import with_hint

__all__ = ["register_accessor"]

_NAME = "rangebar"


class _PandasBars:
    """Stand-in for the namespace, which frames of Polars have."""

    def __init__(self, frame: object) -> None:
        sentence = f"a pandas {type(frame).__name__} has no `rangebar`; frames of Polars have"
        hint = (
            "write pl.from_pandas(df).rangebar.bars(250), or for a pandas frame of bars "
            "rb.process_trades_to_dataframe(df, 250)"
        )
        raise AttributeError(with_hint(sentence, hint))


def register_accessor() -> None:
    """Explain `df.rangebar` on pandas frames, if pandas is loaded and nobody else has the name.

    Examples
    --------
    >>> import pandas as pd
    >>> from rangebar_polars.interop.pandas_accessor import register_accessor
    >>> register_accessor()
    >>> pd.DataFrame().rangebar
    Traceback (most recent call last):
        ...
    AttributeError: a pandas DataFrame has no `rangebar`; frames of Polars have
    <BLANKLINE>
    hint: write pl.from_pandas(df).rangebar.bars(250), or for a pandas frame of bars \
rb.process_trades_to_dataframe(df, 250)
    """
    pandas = sys.modules.get("pandas")
    # While pandas is being imported, it has no `api` yet.
    if pandas is None or not hasattr(pandas, "api") or hasattr(pandas.DataFrame, _NAME):
        return
    pandas.api.extensions.register_dataframe_accessor(_NAME)(_PandasBars)
