"""Why a request failed: a name that does not resolve, a refusal, TLS, a proxy, silence."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from rangebar_polars._utils.address import scrubbed
from rangebar_polars.config import proxy_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rangebar_polars._utils.address import Address

__all__ = ["Cause", "cause_of"]

_UNREACHABLE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_LONGEST = 300
_NETWORK = "check that the network is up"


class Cause(NamedTuple):
    """Why a request failed, and what to do about it."""

    text: str
    hint: str


def cause_of(error: BaseException, address: Address) -> Cause:
    """Describe why a request to an address failed.

    Examples
    --------
    >>> from rangebar_polars._utils.address import Address
    >>> from rangebar_polars.fetch.failures.causes import cause_of
    >>> cause_of(ConnectionRefusedError(), Address("https://127.0.0.1:9/x")).text
    'connection refused: nothing accepts connections at 127.0.0.1:9'
    """
    parts = urlsplit(address.full)
    host = parts.netloc.rpartition("@")[2]
    proxy = _proxy(parts.scheme, host)
    where = host if proxy is None else f"the proxy {proxy[1]} (`{proxy[0]}`)"
    links = list(_links(error))
    kinds = {type(link).__name__ for link in links}
    text = scrubbed(_first_line(error), address)
    through = None if proxy is None else f"check the variable `{proxy[0]}`, or set NO_PROXY={host}"
    if kinds & {"ProxyError", "InvalidProxyStatus", "InvalidProxyMessage"}:
        return Cause(f"the proxy refuses the request: {text}", through or _NETWORK)
    for link in links:
        found = _of_system(link, where, through) or _of_tls(link, host, parts.scheme)
        if found is not None:
            return found
    if "ConnectTimeout" in kinds:
        return Cause(f"timeout: no connection to {where}", through or f"{_NETWORK}; or a firewall")
    if kinds & {"ReadTimeout", "WriteTimeout", "PoolTimeout"}:
        hint = "try again later; RANGEBAR_HTTP_TIMEOUT_S is how long to wait"
        return Cause(f"timeout: {where} accepts the connection and sends nothing more", hint)
    if kinds & {"RemoteProtocolError", "LocalProtocolError"}:
        return Cause(f"the answer is not HTTP: {text}", f"is `{address}` the address of a server?")
    return Cause(text, "try again later")


def _of_system(link: BaseException, where: str, through: str | None) -> Cause | None:
    """Describe an error of the operating system."""
    if isinstance(link, socket.gaierror):
        reason = link.strerror or str(link)
        text = f"DNS: the name of {where} is not known ({reason})"
        return Cause(text, through or f"check the spelling of the address, or {_NETWORK}")
    if not isinstance(link, OSError) or isinstance(link, ssl.SSLError):
        return None
    if isinstance(link, ConnectionRefusedError):
        text = f"connection refused: nothing accepts connections at {where}"
        return Cause(text, through or f"check the address, or {_NETWORK}")
    if isinstance(link, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return Cause(f"connection closed by {where}", through or "try again later")
    if link.errno in _UNREACHABLE:
        return Cause(f"no route to {where} ({link.strerror})", through or _NETWORK)
    return None


def _of_tls(link: BaseException, host: str, scheme: str) -> Cause | None:
    """Describe an error of TLS."""
    if isinstance(link, ssl.SSLCertVerificationError):
        hint = (
            "if a company or mirror of your own signs it, set SSL_CERT_FILE to the file of its "
            "certificate authority"
        )
        reason = link.verify_message or _first_line(link)
        return Cause(f"TLS: the certificate of {host} is not trusted ({reason})", hint)
    if isinstance(link, ssl.SSLError):
        reason = re.sub(r"^\[.*?\] | \(_ssl\.c:\d+\)$", "", str(link)) or "no handshake"
        hint = "ws or wss?" if scheme == "wss" else "http or https?"
        return Cause(f"TLS: {host} does not complete the handshake ({reason})", hint)
    return None


def _proxy(scheme: str, host: str) -> tuple[str, Address] | None:
    try:
        return proxy_of(scheme, host)
    except (OSError, ValueError):
        return None


def _links(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those behind it."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _first_line(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}".rstrip(": ")
    return text.partition("\n")[0][:_LONGEST]
