"""Requests to the REST interface, with its limits, retries and errors."""

from __future__ import annotations

import json
import re
import warnings
import weakref
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from rangebar_polars._utils import clock
from rangebar_polars._utils.address import Address, fault_of, scrubbed
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import settings
from rangebar_polars.exceptions import (
    ClockSkewWarning,
    CorruptSourceError,
    NoAnswerError,
    SettingError,
    SourceError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch._http import HttpClient, RequestFailedError, date_of
from rangebar_polars.fetch.binance.rate_limit import (
    LONGEST_WAIT_S,
    HostClosedError,
    budget_of,
    limit_of,
)
from rangebar_polars.fetch.failures.closed_host import LONGEST_CLOSED_S, ClosedHost
from rangebar_polars.fetch.failures.patience import announced
from rangebar_polars.fetch.http_probe import LARGEST_SKEW_S
from rangebar_polars.fetch.source import Caller, current_context

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rangebar_polars.fetch._http import Answer
    from rangebar_polars.fetch._wire import Cancellation, Limits
    from rangebar_polars.fetch.binance.rate_limit import WeightBudget

    T = TypeVar("T")

__all__ = ["HOSTS", "ClockSkewWarning", "HostBlockedError", "Reply", "RestClient"]
__all__ += ["TooManyRequestsError"]


class Host(NamedTuple):
    """The address of a market's interface, and the weight of a request for trades."""

    base: str
    path: str
    weight: int
    #: The limit of the host relative to that of the spot market, to which the setting applies.
    share: float


HOSTS = {
    "spot": Host("https://api.binance.com", "/api/v3/aggTrades", 4, 1.0),
    "um": Host("https://fapi.binance.com", "/fapi/v1/aggTrades", 20, 0.4),
    "cm": Host("https://dapi.binance.com", "/dapi/v1/aggTrades", 20, 0.4),
}

OK = 200
FORBIDDEN = 403
BANNED = 418
TOO_MANY = 429
NOT_FROM_HERE = 451
SERVER_FAULT = 500
# Error codes for a fault of the exchange, whatever the status.
#: Code of the exchange for a symbol that it does not have.
UNKNOWN_SYMBOL = -1121
OVERLOADED = frozenset({-1000, -1001, -1003, -1006, -1007, -1008, -1015, -1016})
SHORTEST_BAN_S = 120.0
#: More than a hundred times the size of a page of 1000 trades.
LARGEST_ANSWER_BYTES = 16 << 20
_LATER = "try again later"


class UnknownSymbolError(SourceError):
    """Raised when the exchange does not have a symbol."""


class TooManyRequestsError(TransientSourceError):
    """Raised when the exchange rejects requests for some time."""


class HostBlockedError(TooManyRequestsError):
    """Raised when the exchange rejects requests until a time that is too far away to wait for."""


class Reply(NamedTuple):
    """A valid answer, not parsed yet."""

    body: bytes
    #: The time of the exchange when it answered, to the second; None if it does not say.
    date: datetime | None
    #: When the request was sent, in monotonic time.
    sent_at: float


class RestClient:
    """Client of one host, which threads may share.

    Who sends the requests and for which store is the `request_context` in which it is made.
    """

    def __init__(
        self,
        market: str,
        *,
        url: str | None = None,
        budget: WeightBudget | None = None,
        now: Callable[[], float] = clock.unix_seconds,
        limits: Limits | None = None,
        cancellation: Cancellation | None = None,
    ) -> None:
        import_extra("stamina", "fetch")
        context = current_context()
        chosen = settings(binance_rest_url=url, cache_dir=context.cache_dir)
        self.host = HOSTS[market]
        base = Address(chosen.binance_rest_url or self.host.base)
        parts = urlsplit(base.full)
        if fault_of(base) or parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingError(
                with_hint(
                    f"`{base}` is not the address of a REST interface", "http(s)://host[:port]"
                )
            )
        self._address = base.joined(self.host.path.lstrip("/"))
        #: Local time minus the exchange's, in seconds, at its last answer; None before the first.
        self.clock_skew_s: float | None = None
        #: Answers by their status; "none" without one.
        self.statuses: Counter[str] = Counter()
        self._caller = context.caller
        #: The weight that this caller may bring a minute to.
        self.limit = limit_of(self._caller, chosen.rest_weight_per_minute, self.host.share)
        self._tries = chosen.http_tries
        self._budget = budget or budget_of(str(base))
        self._closed = ClosedHost(chosen.cache_dir.absolute(), base, now)
        self._now = now
        # Other markets always have times in milliseconds.
        self._headers = {"Accept-Encoding": "gzip"}
        if market == "spot":
            self._headers["X-MBX-TIME-UNIT"] = "MICROSECOND"
        self._http = HttpClient(limits=limits, cancellation=cancellation)
        self.close = weakref.finalize(self, self._http.close)

    @property
    def url(self) -> str:
        """Address of the requests, without its secrets."""
        return str(self._address)

    def server_time(self) -> datetime:
        """Return the time of the exchange, to the second."""
        return datetime.fromtimestamp(self._now() - (self.clock_skew_s or 0.0), UTC)

    def ask(self, parse: Callable[[bytes, str], T], **parameters: str | int) -> T:
        """Send a request, with retries, and return the answer parsed by `parse`.

        Raises
        ------
        TransientSourceError
            There was no answer, or the exchange rejects requests now.
        CorruptSourceError
            The answers are not valid.
        SourceError
            The exchange rejects the symbol, or the location of the caller.
        """
        import stamina

        with announced(self.url, self._tries) as attempted:
            for attempt in stamina.retry_context(
                on=_is_retryable,
                attempts=self._tries,
                timeout=None,
                wait_initial=clock.real_seconds(0.5),
                wait_max=clock.real_seconds(30.0),
                wait_jitter=clock.real_seconds(0.5),
            ):
                with attempt:
                    try:
                        return parse(self._answer(parameters), self.url)
                    except TransientSourceError as error:
                        attempted.failed(_reason(error))
                        raise
        raise AssertionError  # the last attempt returns or raises

    def closed_for(self) -> float:
        """Return for how many seconds the host rejects requests; 0 if it does not."""
        self._closed.apply(self._budget)
        return self._budget.closed_for()

    def used(self) -> int:
        """Return the weight that was used in this minute."""
        return self._budget.used()

    def take(self, part: float = 1.0) -> float:
        """Spend the weight of a request and return 0, or return the seconds to wait.

        Parameters
        ----------
        part
            The part of the limit to keep within.
        """
        return self._budget.take(self.host.weight, per_minute=max(1, int(self.limit * part)))

    def _answer(self, parameters: Mapping[str, str | int]) -> bytes:
        """Send one request when the limit allows it, and return the body of its answer."""
        try:
            self._budget.spend(
                self.host.weight,
                per_minute=self.limit,
                before=lambda: self._closed.apply(self._budget),
            )
        except HostClosedError as closed:
            raise self.blocked(closed.seconds, str(parameters.get("symbol", ""))) from None
        return self.send(parameters).body

    def send(self, parameters: Mapping[str, str | int]) -> Reply:
        """Send one request whose weight is spent.

        Raises
        ------
        TransientSourceError
            There was no answer, or the exchange rejects requests now.
        SourceError
            The exchange rejects the symbol, or the location of the caller.
        """
        symbol = str(parameters.get("symbol", ""))
        address = self._address.with_query(urlencode(parameters))
        sent_at, spent_at = clock.monotonic(), self._budget.now()
        try:
            with self._http.ask("GET", address, self._headers) as answer:
                body = answer.read(LARGEST_ANSWER_BYTES)
        except RequestFailedError as error:
            self.statuses["none"] += 1
            sentence = f"`{self.url}` gave no answer for `{symbol}` ({error})"
            raise NoAnswerError(
                with_hint(sentence, error.hint or _LATER), symbol=symbol, url=self.url
            ) from None
        self.statuses[str(answer.status)] += 1
        date = self._record(answer, spent_at)
        code, message = _error_of(body)
        message = scrubbed(message, self._address)[:200]  # a server may repeat the request
        if answer.status != OK or code is not None:
            raise self._error(answer, code, message, symbol)
        return Reply(body, date, sent_at)

    def _record(self, answer: Answer, spent_at: float) -> datetime | None:
        """Record the clock and the used weight that the exchange reports, and return its time."""
        second = 0.0
        date = date_of(answer.header("Date"))
        if date is not None:
            second = float(date.second)
            # The header omits fractions of a second, half a second on average.
            skew = self._now() - date.timestamp() - 0.5
            is_new = abs(skew) > LARGEST_SKEW_S >= abs(self.clock_skew_s or 0.0)
            # Live bars report it in their health.
            if is_new and self._caller is not Caller.LIVE:
                message = (
                    f"the clock of this machine is {abs(skew):.0f} s "
                    f"{'ahead of' if skew > 0 else 'behind'} that of `{self.url}`, which is "
                    f"used instead\n\nhint: let the system set its clock"
                )
                warnings.warn(message, ClockSkewWarning, stacklevel=2)
            self.clock_skew_s = skew
        used = answer.header("X-MBX-USED-WEIGHT-1M")
        if re.fullmatch("[0-9]{1,9}", used):
            self._budget.correct(
                int(used), per_minute=self.limit, sent_at=spent_at, seconds_left=60.0 - second
            )
        return date

    def _error(self, answer: Answer, code: int | None, message: str, symbol: str) -> SourceError:
        """Make the error for an answer, by its status and code."""
        status = answer.status
        if status in (TOO_MANY, BANNED):
            wait = self._seconds_of(answer.header("Retry-After"), status)
            self._budget.close(wait)
            self._closed.close(wait)
            if wait > LONGEST_WAIT_S:
                return self.blocked(wait, symbol)
        reason = f"{code}: {message}" if code is not None else f"status {status}"
        sentence = f"`{self.url}` refuses `{symbol}` ({reason})"
        if status in (TOO_MANY, BANNED) or status >= SERVER_FAULT or code in OVERLOADED:
            kind = TooManyRequestsError if status in (TOO_MANY, BANNED) else TransientSourceError
            sentence = f"`{self.url}` could not answer for `{symbol}` ({reason})"
            return kind(with_hint(sentence, _LATER), symbol=symbol, url=self.url)
        hint = "is it a symbol of this market? the base address is RANGEBAR_BINANCE_REST_URL"
        if status in (FORBIDDEN, NOT_FROM_HERE):
            hint = (
                "the exchange does not serve this address or location; another base address for "
                "public data may (RANGEBAR_BINANCE_REST_URL)"
            )
        error = UnknownSymbolError if code == UNKNOWN_SYMBOL else SourceError
        return error(with_hint(sentence, hint), symbol=symbol, url=self.url)

    def _seconds_of(self, retry_after: str, status: int) -> float:
        """Return how long to wait, from seconds or a date in `Retry-After`."""
        return min(self._asked_seconds(retry_after, status), LONGEST_CLOSED_S)

    def _asked_seconds(self, retry_after: str, status: int) -> float:
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", retry_after):
            return float(retry_after)
        date = date_of(retry_after)
        if date is not None:
            return max(0.0, date.timestamp() - self.server_time().timestamp())
        return SHORTEST_BAN_S if status == BANNED else 60.0

    def blocked(self, seconds: float, symbol: str) -> HostBlockedError:
        """Make the error for a host that is closed."""
        until = self.server_time() + timedelta(seconds=seconds)
        sentence = f"`{self.url}` accepts no requests before `{until:%Y-%m-%d %H:%M:%S} UTC`"
        hint = "other programs at this address share its limit; RANGEBAR_REST_WEIGHT_PER_MINUTE"
        return HostBlockedError(with_hint(sentence, hint), symbol=symbol, url=self.url)


def _is_retryable(error: Exception) -> bool:
    """Return whether another try may succeed."""
    return isinstance(error, (TransientSourceError, CorruptSourceError)) and not isinstance(
        error, HostBlockedError
    )


def _error_of(body: bytes) -> tuple[int | None, str]:
    """Return the code and message of an error answer: `{"code": -1121, "msg": "…"}`."""
    if not body.lstrip().startswith(b"{"):
        return None, ""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None, ""
    code, message = answer.get("code"), answer.get("msg", "")
    # JSON may have lone surrogates, which cannot be encoded.
    text = str(message).encode("utf-8", "replace").decode()
    return (code, text) if isinstance(code, int) else (None, "")


def _reason(error: TransientSourceError) -> str:
    """Return what the first line of an error says behind the address."""
    line = str(error).partition("\n")[0]
    return line.partition("(")[2].removesuffix(")") or line
