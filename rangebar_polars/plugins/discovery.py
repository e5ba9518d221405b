"""Discovery of feature plugins through entry points, once a process."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import get_ident
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from rangebar_polars._text import shown
from rangebar_polars._utils.fork import ForkSafeLock
from rangebar_polars._utils.warn import warn_caller
from rangebar_polars.config import settings
from rangebar_polars.events import PluginEnrichFailed, emit
from rangebar_polars.exceptions import PluginError, PluginWarning, with_hint
from rangebar_polars.plugins.provider import clash_of, declare

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.metadata import EntryPoint

    from rangebar_polars.plugins.provider import Declared, FeatureProvider

__all__ = ["GROUP", "Discovered", "Failure", "attempt", "discover_providers", "discovered"]
__all__ += ["report_failure", "reset_provider_cache"]

_Result = TypeVar("_Result")

#: Group of the entry points.
GROUP = "rangebar_polars.feature_providers"
_MODES = (
    "RANGEBAR_PLUGINS=strict raises this error with its cause; RANGEBAR_PLUGINS=off loads no plugin"
)


class Failure(NamedTuple):
    """A plugin that could not be loaded, or that failed."""

    #: Name of the plugin or of its entry point; empty if the plugins could not be listed.
    provider: str
    version: str
    #: What failed, in a sentence after the name.
    what: str
    error: Exception
    #: What follows from it, unless the error is raised.
    effect: str = "it adds no column"
    hint: str = _MODES

    @property
    def reason(self) -> str:
        """The exception as text."""
        return shown(f"{type(self.error).__name__}: {self.error}")


class Discovered(NamedTuple):
    """The plugins of the environment, by name, and those that could not be loaded."""

    providers: tuple[Declared, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass
class _Cache:
    """The plugins that this process has found."""

    found: Discovered | None = None
    #: The thread that is loading plugins.
    loading_in: int | None = None
    lock: ForkSafeLock = field(default_factory=ForkSafeLock)


_cache = _Cache()


def discover_providers() -> tuple[FeatureProvider, ...]:
    """Load the feature plugins that are installed, at the first call of this process.

    They are the objects of the entry-point group `rangebar_polars.feature_providers`, or instances of
    the classes there. With `RANGEBAR_PLUGINS=off` none is loaded.

    Returns
    -------
    tuple of FeatureProvider
        The plugins by name. A plugin that cannot be loaded, breaks a rule for names, or has a column
        of another one is left out.

    Warns
    -----
    PluginWarning
        A plugin was left out.

    Raises
    ------
    PluginError
        The same, with `RANGEBAR_PLUGINS=strict`.

    Examples
    --------
    >>> from rangebar_polars.plugins import discover_providers
    >>> [provider.name for provider in discover_providers()]
    []
    """
    mode = settings().plugins
    if mode == "off":
        return ()
    found = discovered()
    for failure in found.failures:
        report_failure(failure, symbol="", is_strict=mode == "strict")
    return tuple(one.provider for one in found.providers)


def reset_provider_cache() -> None:
    """Forget the plugins that were found, so that the next request looks for them again.

    Modules that are imported stay imported.

    Examples
    --------
    >>> from rangebar_polars.plugins import reset_provider_cache
    >>> reset_provider_cache()
    """
    with _cache.lock:
        _cache.found = None


def discovered() -> Discovered:
    """Return the plugins of the environment, which are loaded once a process."""
    if _cache.loading_in == get_ident():
        # A plugin that asks for plugins while it is imported.
        return Discovered()
    with _cache.lock:
        if _cache.found is None:
            _cache.loading_in = get_ident()
            try:
                _cache.found = _load_all()
            finally:
                _cache.loading_in = None
        return _cache.found


def report_failure(failure: Failure, *, symbol: str, is_strict: bool) -> None:
    """Emit the event of a failure, and warn of it or raise it."""
    emit(PluginEnrichFailed(symbol, failure.provider, failure.version, failure.reason))
    who = f"the plugin `{shown(failure.provider)}`" if failure.provider else "feature plugins"
    sentence = f"{who} {failure.what}: {failure.reason}"
    if is_strict:
        raise PluginError(sentence, provider=failure.provider) from failure.error
    warn_caller(with_hint(f"{sentence}; {failure.effect}", failure.hint), PluginWarning)


def attempt(work: Callable[[], _Result]) -> _Result | Exception:
    """Return what a plugin returns, or the exception that it raises.

    Code of a plugin may raise anything, and must not stop a read. A lack of memory is not its fault.
    """
    try:
        return work()
    except Exception as error:
        if isinstance(error, MemoryError):
            raise
        return error


def _load_all() -> Discovered:
    from importlib.metadata import entry_points

    points = attempt(lambda: sorted(entry_points(group=GROUP), key=_order))
    if isinstance(points, Exception):
        failure = Failure("", "", "cannot be listed", points, "no plugin adds columns")
        return Discovered((), (failure,))
    providers: list[Declared] = []
    failures: list[Failure] = []
    for point in points:
        one = attempt(lambda point=point: _load(point, providers))  # type: ignore[misc]
        if isinstance(one, Exception):
            failures.append(Failure(point.name, _version_of(point), "could not be loaded", one))
        else:
            providers.append(one)
    return Discovered(tuple(sorted(providers, key=lambda one: one.name)), tuple(failures))


def _load(point: EntryPoint, others: list[Declared]) -> Declared:
    loaded = point.load()
    one = declare(loaded() if isinstance(loaded, type) else loaded)
    clash = clash_of(one, others)
    if clash is not None:
        raise ValueError(clash)
    return one


def _order(point: EntryPoint) -> tuple[str, str, str]:
    return point.name, point.dist.name if point.dist else "", point.value


def _version_of(point: EntryPoint) -> str:
    return point.dist.version if point.dist else ""
