"""HTTP requests through proxies and redirects, with limits on all sizes and times."""

from __future__ import annotations

import base64
import os
import ssl
import weakref
from contextlib import contextmanager
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from rangebar_polars._utils import clock
from rangebar_polars._utils.address import Address
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import proxy_of, settings, variables_set
from rangebar_polars.exceptions import RangeBarError, SettingError, with_hint
from rangebar_polars.fetch._decoding import decoded
from rangebar_polars.fetch.failures.causes import cause_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from rangebar_polars.fetch._wire import Cancellation, Limits

__all__ = ["Answer", "HttpClient", "RequestFailedError", "date_of"]

CONNECT_TIMEOUT_S = 10.0
LONGEST_REDIRECTION = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PROXY_SCHEMES = ("http", "https", "socks5", "socks5h")
PORTS = {"http": 80, "https": 443}
#: Characters that stay unencoded in a path or query.
AS_IT_IS = "%/:?#[]@!$&'()*+,;=-._~"


class RequestFailedError(Exception):
    """Raised when a request gets no complete answer. The message contains no secrets.

    `hint` says what to do, if the cause tells.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Answer:
    """Status, headers and streamed body of an answer."""

    def __init__(self, address: Address, response: Any) -> None:  # noqa: ANN401
        self.status: int = response.status
        self._address = address
        self._stream: Iterable[bytes] = response.stream
        self._headers: dict[str, str] = {}
        for name, value in response.headers:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def header(self, name: str) -> str:
        """Return the value of a header; empty if there is none."""
        return self._headers.get(name.lower(), "")

    @property
    def is_encoded(self) -> bool:
        """Whether the body is compressed in transit."""
        return self.header("Content-Encoding").lower() not in ("", "identity")

    def pieces(self, largest_bytes: int) -> Iterator[bytes]:
        """Read the body piece by piece, decompressed.

        Raises
        ------
        RequestFailedError
            The body is too large, or its compression is unknown or damaged.
        """
        too_large = f"the answer is larger than {largest_bytes} bytes"
        length = self.header("Content-Length")[:20]
        if length.isascii() and length.isdigit() and int(length) > largest_bytes:
            raise RequestFailedError(too_large)
        size = 0
        with _failures(self._address):
            for piece in decoded(self._stream, self.header("Content-Encoding")):
                size += len(piece)
                if size > largest_bytes:
                    raise RequestFailedError(too_large)
                yield piece

    def read(self, largest_bytes: int) -> bytes:
        """Read the whole body."""
        return b"".join(self.pieces(largest_bytes))


class HttpClient:
    """Connections to servers, kept open between requests; threads may share it.

    The limits are by default those of the settings `http_timeout_s`, `http_total_timeout_s` and
    `http_min_bytes_per_s`.
    """

    def __init__(
        self,
        clock: Callable[[], float] = clock.monotonic,
        *,
        limits: Limits | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        import_extra("httpcore2", "fetch")
        self._cancellation = cancellation
        self._limits = limits or _limits()
        self._clock = clock
        self._pools: dict[tuple[int, str, str], Any] = {}
        self.close = weakref.finalize(self, _close, self._pools)

    @contextmanager
    def ask(
        self, method: str, address: Address, headers: Mapping[str, str] | None = None
    ) -> Iterator[Answer]:
        """Send a request and follow redirects.

        Raises
        ------
        RequestFailedError
            The answer is not complete. This can also be raised while the body is read.
        SettingError
            A variable of the environment names a proxy or a certificate that cannot be used.
        """
        from rangebar_polars.fetch._wire import Meter, metered

        with metered(Meter(self._limits, self._clock, self._cancellation)):
            with _failures(address):
                response = self._followed(method, address, headers or {})
            try:
                yield Answer(address, response)
            finally:
                with _failures(address):
                    response.close()

    def _followed(self, method: str, address: Address, headers: Mapping[str, str]) -> Any:  # noqa: ANN401
        """Return the first answer that is not a redirect."""
        credentials, home = address.credentials, _origin_of(address)
        for _ in range(LONGEST_REDIRECTION + 1):
            own = address.credentials or (credentials if _origin_of(address) == home else None)
            response = self._sent(method, address, {**headers, **_authorization(own)})
            location = _location_of(response)
            if location is None:
                return response
            response.close()
            address = Address(urljoin(address.full, location))
            if urlsplit(address.full).scheme not in PORTS or not urlsplit(address.full).hostname:
                raise RequestFailedError(f"it redirects to `{address}`, which is not a web address")
        raise RequestFailedError(f"it redirects more than {LONGEST_REDIRECTION} times")

    def _sent(self, method: str, address: Address, headers: Mapping[str, str]) -> Any:  # noqa: ANN401
        import httpcore2

        parts = urlsplit(address.full)
        host = (parts.hostname or "").encode("idna")
        target = quote(parts.path or "/", safe=AS_IT_IS)
        if parts.query:
            target += f"?{quote(parts.query, safe=AS_IT_IS)}"
        host_header = b"[" + host + b"]" if b":" in host else host
        port = parts.port
        if port not in (None, PORTS[parts.scheme]):
            host_header += f":{port}".encode()
        silence_s = self._limits.silence_s
        request = httpcore2.Request(
            method,
            httpcore2.URL(
                scheme=parts.scheme.encode(), host=host, port=port, target=target.encode()
            ),
            headers=[
                (b"Host", host_header),
                (b"Accept", b"*/*"),
                (b"User-Agent", b"rangebar-polars"),
                *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
            ],
            extensions={
                "timeout": {
                    "connect": min(silence_s, CONNECT_TIMEOUT_S),
                    "read": silence_s,
                    "write": silence_s,
                    "pool": clock.real_seconds(self._limits.total_s),
                }
            },
        )
        return self._pool(parts.scheme, parts.netloc.rpartition("@")[2]).handle_request(request)

    def _pool(self, scheme: str, host: str) -> Any:  # noqa: ANN401
        """Return the connection pool for a scheme, through the proxy that is set for the host."""
        found = proxy_of(scheme, host)
        # A forked child must not use the connections of its parent.
        key = (os.getpid(), scheme, "" if found is None else found[1].full)
        pool = self._pools.get(key)
        return self._pools.setdefault(key, _pool_of(scheme, found)) if pool is None else pool


def _limits() -> Limits:
    from rangebar_polars.fetch._wire import Limits

    chosen = settings()
    return Limits(chosen.http_timeout_s, chosen.http_total_timeout_s, chosen.http_min_bytes_per_s)


def _close(pools: dict[tuple[int, str, str], Any]) -> None:
    while pools:
        (process, *_), pool = pools.popitem()
        # A lock of the parent may have been held when this process was forked.
        if process == os.getpid():
            pool.close()


def _pool_of(scheme: str, found: tuple[str, Address] | None) -> Any:  # noqa: ANN401
    import httpcore2

    from rangebar_polars.fetch._wire import MeteredBackend

    options: dict[str, Any] = {
        "ssl_context": _certificates(_certificate_variables())
        if scheme == "https"
        # The pool requires a context. A plain connection needs no certificates in it.
        else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        "max_connections": 100,
        "max_keepalive_connections": 20,
        "keepalive_expiry": 5.0,
        "network_backend": MeteredBackend(),
    }
    if found is None:
        return httpcore2.ConnectionPool(**options)
    variable, proxy = found
    parts = _proxy_parts(variable, proxy)
    options["proxy_url"] = httpcore2.URL(
        scheme=parts.scheme.encode(),
        host=(parts.hostname or "").encode("idna"),
        port=parts.port or {"http": 80, "https": 443}.get(parts.scheme, 1080),
        target=b"/",
    )
    if proxy.credentials is not None:
        options["proxy_auth"] = tuple(part.encode() for part in proxy.credentials)
    if parts.scheme.startswith("socks"):
        return httpcore2.SOCKSProxy(**options)
    if parts.scheme == "https":
        options["proxy_ssl_context"] = _certificates(_certificate_variables())
    return httpcore2.HTTPProxy(**options)


def _certificate_variables() -> tuple[tuple[str, str], ...]:
    """Return the variables that tell OpenSSL where files are, as far as they are set."""
    return tuple(variables_set("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE").items())


def _proxy_parts(variable: str, proxy: Address) -> Any:  # noqa: ANN401
    """Split the address of a proxy and check that it can be used."""
    from importlib.util import find_spec

    hint = "write http://host:port, or set NO_PROXY to the hosts that are reached without a proxy"
    try:
        parts = urlsplit(proxy.full)
        is_valid = bool(parts.hostname) and parts.scheme in PROXY_SCHEMES and parts.port != 0
    except ValueError:
        is_valid = False
    if not is_valid:
        raise SettingError(
            with_hint(f"the variable `{variable}` is `{proxy}`, which is not a proxy", hint)
        )
    if parts.scheme.startswith("socks") and find_spec("socksio") is None:
        raise SettingError(
            with_hint(
                f"the variable `{variable}` names the SOCKS proxy `{proxy}`, for which `socksio` is "
                "not installed",
                "pip install socksio; or set NO_PROXY to the hosts that are reached without a proxy",
            )
        )
    return parts


@cache
def _certificates(variables: tuple[tuple[str, str], ...]) -> ssl.SSLContext:
    """Load the certificates that verify servers, cached by the variables that select them."""
    import httpcore2

    chosen = dict(variables)
    folder = chosen.get("SSL_CERT_DIR")
    if folder is not None and "SSL_CERT_FILE" not in chosen and not Path(folder).is_dir():
        raise SettingError(
            with_hint(
                f"the variable `SSL_CERT_DIR` is `{folder}`, which is not a folder", "unset it"
            )
        )
    try:
        return httpcore2.default_ssl_context()
    except (OSError, ValueError) as error:
        named = " and ".join(f"`{name}` is `{value}`" for name, value in variables)
        sentence = f"certificates cannot be loaded ({error})"
        if not named:
            hint = "install the certificates of the system"
            raise SettingError(with_hint(sentence, hint)) from None
        hint = "unset the variable, or set it to a file of certificates"
        raise SettingError(with_hint(f"{sentence}: {named}", hint)) from None


@contextmanager
def _failures(address: Address) -> Iterator[None]:
    """Convert any error of the libraries to `RequestFailedError`.

    The list of their errors is open: sockets, TLS, DNS, HTTP and proxies each add their own.
    """
    from rangebar_polars.fetch._wire import TooSlowError

    try:
        yield
    except (RangeBarError, RequestFailedError, MemoryError):
        raise
    except TooSlowError as error:
        raise RequestFailedError(str(error)) from None
    except Exception as error:  # noqa: BLE001 - raised again without its cause, which may hold secrets
        cause = cause_of(error, address)
        raise RequestFailedError(cause.text, cause.hint) from None


def _origin_of(address: Address) -> tuple[str, str | None, int | None]:
    parts = urlsplit(address.full)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def _authorization(credentials: tuple[str, str] | None) -> dict[str, str]:
    if credentials is None:
        return {}
    encoded = base64.b64encode(":".join(credentials).encode()).decode()
    return {"Authorization": f"Basic {encoded}"}


def _location_of(response: Any) -> str | None:  # noqa: ANN401
    """Return the target of a redirect; None if the answer is not a redirect."""
    if response.status not in REDIRECTS:
        return None
    named = (value for name, value in response.headers if name.lower() == b"location")
    location = next(named, None)
    return None if location is None else location.decode("latin-1").strip()


def date_of(text: str) -> datetime | None:
    """Return the instant of an HTTP date in UTC; None if the text is not one.

    Examples
    --------
    >>> from rangebar_polars.fetch._http import date_of
    >>> date_of("Fri, 01 Mar 2024 10:00:00 GMT").isoformat()
    '2024-03-01T10:00:00+00:00'
    >>> date_of("Fri, 01 Mar 99999999999999999999 10:00:00 GMT") is None
    True
    """
    try:
        date = parsedate_to_datetime(text)
        return date.astimezone(UTC) if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, ArithmeticError):
        return None
