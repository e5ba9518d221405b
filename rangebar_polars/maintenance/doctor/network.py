"""Checks of the addresses from which ticks are fetched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rangebar_polars._utils import clock
from rangebar_polars._utils.address import Address
from rangebar_polars._utils.arguments.checks import is_folder
from rangebar_polars.config import proxy_of, settings, variable_of
from rangebar_polars.fetch.binance.rest_client import HOSTS
from rangebar_polars.fetch.http_probe import LARGEST_SKEW_S
from rangebar_polars.maintenance.doctor.findings import Finding
from rangebar_polars.sources import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Place", "check_place", "places"]

NETWORK = "network"
#: The setting of the REST interface, and what its requests answer without any data.
REST, PING = "binance_rest_url", "ping"

UNAUTHORIZED, FORBIDDEN, NOT_FROM_HERE, PROXY_LOGIN = 401, 403, 451, 407
LATER = frozenset({418, 429})
SERVER_FAULT = 500


class Place(NamedTuple):
    """An address to check."""

    name: str
    #: The setting that names it.
    setting: str
    address: Address
    method: str = "HEAD"


def places(sources: Sequence[str]) -> list[Place]:
    """Return the addresses of sources, as the settings name them.

    Examples
    --------
    >>> from rangebar_polars.maintenance.doctor.network import places
    >>> [place.name for place in places(["exness"])]
    ['exness']
    """
    chosen = settings()
    found: list[Place] = []
    for name in sources:
        for setting in SOURCES[name].settings:
            if setting == REST:
                found += _rest_places(name, chosen.binance_rest_url)
            elif setting.endswith("_url"):
                words = setting.removesuffix("_url").replace("_", " ")
                found.append(Place(words, setting, Address(getattr(chosen, setting)).joined("")))
    return found


def _rest_places(source: str, base: str | None) -> Iterator[Place]:
    for market, host in HOSTS.items():
        path = f"{host.path.rpartition('/')[0].strip('/')}/{PING}"
        yield Place(f"{source} rest {market}", REST, Address(base or host.base).joined(path), "GET")


def check_place(place: Place, timeout_s: float) -> Iterator[Finding]:
    """Send one request, and report what comes back."""
    parts = urlsplit(place.address.full)
    if parts.scheme == "file":
        yield _of_folder(place, Path(url2pathname(parts.path)))
        return
    try:
        from rangebar_polars.fetch._http import HttpClient, RequestFailedError, date_of
        from rangebar_polars.fetch._wire import Limits
    except ImportError:
        hint = "pip install 'rangebar-polars[fetch]'"
        yield Finding(NETWORK, place.name, "note", "not checked without the extra `fetch`", hint)
        return
    client = HttpClient(limits=Limits(timeout_s, 2 * timeout_s, 0))
    try:
        with client.ask(place.method, place.address) as answer:
            status, date = answer.status, date_of(answer.header("Date"))
    except RequestFailedError as error:
        hint = f"{error.hint}; {variable_of(place.setting)} names another address"
        yield Finding(NETWORK, place.name, "problem", f"{place.address}: {error}", hint)
        return
    finally:
        client.close()
    yield _of_status(place, status)
    skew_s = 0.0 if date is None else clock.unix_seconds() - date.timestamp() - 0.5
    if abs(skew_s) > LARGEST_SKEW_S:
        way = "ahead of" if skew_s > 0 else "behind"
        text = f"the clock of this machine is {abs(skew_s):,.0f} s {way} that of {place.address}"
        yield Finding(NETWORK, "clock", "problem", text, "let the system set its clock")


def _of_folder(place: Place, folder: Path) -> Finding:
    if is_folder(folder):
        return Finding(NETWORK, place.name, "ok", f"folder {folder}")
    hint = f"{variable_of(place.setting)} names it"
    return Finding(NETWORK, place.name, "problem", f"there is no folder `{folder}`", hint)


def _of_status(place: Place, status: int) -> Finding:
    """Judge the status of an answer: any says that the address can be reached."""
    proxy = proxy_of(*urlsplit(place.address.full)[:2])
    through = "" if proxy is None else f" through the proxy {proxy[1]} ({proxy[0]})"
    text = f"{place.address} answers{through} (status {status})"
    hint = ""
    if status in (UNAUTHORIZED, PROXY_LOGIN):
        hint = f"the address needs a user and a password: https://user:password@host in {variable_of(place.setting)}"
    elif status == NOT_FROM_HERE or (status == FORBIDDEN and place.method == "GET"):
        hint = f"it does not serve this location; another address may: {variable_of(place.setting)}"
    elif status in LATER:
        hint = "it refuses requests for now: wait, and lower RANGEBAR_REST_WEIGHT_PER_MINUTE"
    elif status >= SERVER_FAULT:
        hint = "the server fails; try again later"
    return Finding(NETWORK, place.name, "problem" if hint else "ok", text, hint)
