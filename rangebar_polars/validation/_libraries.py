"""Statistics that the libraries of the extra `validation` compute."""

from __future__ import annotations

import math
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rangebar_polars._utils.optional import import_extra

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rangebar_polars.validation._ranks import Doubles

__all__ = [
    "mutual_information",
    "quiet_libraries",
    "require_libraries",
    "spearman_p",
    "stationarity",
]

_EXTRA = "validation"
_LEAST_VALUES = 20
_STATIONARY_BELOW = 0.05
_MOST_ROWS = 50_000
_MODULES = ("scipy.stats", "statsmodels.tsa.stattools", "sklearn.feature_selection")
_LIBRARIES = ("numpy", "scipy", "statsmodels", "sklearn")
#: What a library raises for a series that it cannot evaluate, beside exceptions of its own.
_FAILURES = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)


def require_libraries() -> None:
    """Import the libraries of the extra `validation`.

    Raises
    ------
    MissingExtraError
        One of them is not installed.
    """
    for library in _LIBRARIES:
        import_extra(library, _EXTRA)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide the warnings of the libraries, such as of a regression without a unique solution.

    A result that is not finite is reported as an error of its column.
    """
    import numpy as np

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        # The first import of statsmodels shows its warnings always, so it comes before the filter.
        for module in _MODULES:
            import_extra(module, _EXTRA)
        warnings.simplefilter("ignore")
        yield


def stationarity(values: Doubles) -> dict[str, Any]:
    """Run the augmented Dickey-Fuller test on the values of a column that are not missing.

    Sources: Dickey & Fuller (1979); p value by MacKinnon (1994, 2010).
    """
    if values.size < _LEAST_VALUES:
        return {"error": f"{values.size} values; at least {_LEAST_VALUES} are needed"}
    if values.min() == values.max():
        return {"error": "the column is constant"}
    adfuller = import_extra("statsmodels.tsa.stattools", _EXTRA).adfuller
    # A tuple, or from statsmodels 0.16 on an object that unpacks into the first two of its values.
    found = _computed(lambda: tuple(adfuller(values, maxlag=5, regression="c", autolag="AIC"))[:2])
    if isinstance(found, str):
        return {"error": found}
    statistic, p_value = found
    return {
        "adf_statistic": statistic,
        "adf_p_value": p_value,
        "is_stationary": p_value < _STATIONARY_BELOW,
    }


def spearman_p(column: Doubles, target: Doubles) -> float | None:
    """Return the p value of Spearman's correlation for rows without memory; None if undefined."""
    spearmanr = import_extra("scipy.stats", _EXTRA).spearmanr
    found = _computed(lambda: (spearmanr(column, target)[1],))
    return None if isinstance(found, str) else found[0]


def mutual_information(column: Doubles, target: Doubles) -> float | dict[str, str]:
    """Return the mutual information with the target in nats, or the error.

    Of more than 50,000 rows, 50,000 at equal distances are used. Source: Ross (2014).
    """
    import numpy as np

    if column.size > _MOST_ROWS:
        chosen = np.arange(_MOST_ROWS) * column.size // _MOST_ROWS
        column, target = column[chosen], target[chosen]
    estimate = import_extra("sklearn.feature_selection", _EXTRA).mutual_info_regression
    found = _computed(
        lambda: estimate(column.reshape(-1, 1), target, n_neighbors=3, random_state=42)
    )
    return {"error": found} if isinstance(found, str) else found[0]


def _computed(compute: Callable[[], Any]) -> list[float] | str:
    """Return finite numbers, or why there are none."""
    try:
        numbers = [float(number) for number in compute()]
    except Exception as error:
        is_of_library = isinstance(error, _FAILURES) or _library_of(error) in _LIBRARIES
        # A lack of memory says nothing about the column; NumPy raises a class of its own for it.
        if isinstance(error, MemoryError) or not is_of_library:
            raise
        return f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
    return numbers if all(map(math.isfinite, numbers)) else "the result is not finite"


def _library_of(error: Exception) -> str:
    return type(error).__module__.partition(".")[0]
