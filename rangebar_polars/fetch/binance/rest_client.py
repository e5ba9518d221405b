"""Questions to the exchange's REST interface: within its limits, tried again, errors told apart."""

from __future__ import annotations

import json
import re
import time
import warnings
import weakref
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlencode, urlsplit

from rangebar_polars._utils.address import Address, fault_of, scrubbed
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import settings
from rangebar_polars.exceptions import (
    CorruptSourceError,
    SettingError,
    SourceError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch._http import HttpClient, RequestFailedError, date_of
from rangebar_polars.fetch.binance.rate_limit import LONGEST_WAIT_S, HostClosedError, budget_of
from rangebar_polars.fetch.http_probe import LARGEST_SKEW_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rangebar_polars.fetch._http import Answer
    from rangebar_polars.fetch.binance.rate_limit import WeightBudget

    T = TypeVar("T")

__all__ = ["HOSTS", "ClockSkewWarning", "RestClient"]


class Host(NamedTuple):
    """Where a market answers, and what a question for trades weighs there."""

    base: str
    path: str
    weight: int
    #: The limit of the host as a part of that of the spot market, for which the setting is meant.
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
# Codes of the exchange that stand for a fault on its side, whatever the status.
OVERLOADED = frozenset({-1000, -1001, -1003, -1006, -1007, -1008, -1015, -1016})
SHORTEST_BAN_S = 120.0
#: A page of 1000 trades has less than a hundredth of this.
LARGEST_ANSWER_BYTES = 16 << 20
_LATER = "try again later"


class ClockSkewWarning(UserWarning):
    """The clock of this machine is not the exchange's."""


class RefusedError(TransientSourceError):
    """The exchange is not to be asked again before a time that is too far to wait for."""


class RestClient:
    """A host that is asked for trades; threads may share it."""

    def __init__(
        self,
        market: str,
        *,
        url: str | None = None,
        budget: WeightBudget | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        import_extra("stamina", "fetch")
        chosen = settings(binance_rest_url=url)
        self.host = HOSTS[market]
        base = Address(chosen.binance_rest_url or self.host.base)
        parts = urlsplit(base.full)
        if fault_of(base) or parts.scheme not in ("http", "https") or not parts.hostname:
            raise SettingError(
                with_hint(f"`{base}` is no address of a REST interface", "http(s)://host[:port]")
            )
        self._address = base.joined(self.host.path.lstrip("/"))
        #: Local time less the exchange's, in seconds, by its last answer; None before the first.
        self.clock_skew_s: float | None = None
        self._per_minute = max(1, int(chosen.rest_weight_per_minute * self.host.share))
        self._tries = chosen.http_tries
        self._budget = budget or budget_of(str(base))
        self._now = now
        # Times of other markets are in milliseconds, whatever is asked for.
        self._headers = {"Accept-Encoding": "gzip"}
        if market == "spot":
            self._headers["X-MBX-TIME-UNIT"] = "MICROSECOND"
        self._http = HttpClient()
        self.close = weakref.finalize(self, self._http.close)

    @property
    def url(self) -> str:
        """Address that is asked, without its secrets."""
        return str(self._address)

    def server_time(self) -> datetime:
        """The exchange's time, to the second."""
        return datetime.fromtimestamp(self._now() - (self.clock_skew_s or 0.0), UTC)

    def ask(self, parse: Callable[[bytes, str], T], **parameters: str | int) -> T:
        """What `parse` makes of an answer, after as many tries as it takes and the settings allow.

        Raises
        ------
        TransientSourceError
            No answer, or the exchange refuses to give one now.
        CorruptSourceError
            Answers that are none.
        SourceError
            The exchange says no: to an unknown symbol, or to a caller from where this one is.
        """
        import stamina

        for attempt in stamina.retry_context(
            on=_may_get_better,
            attempts=self._tries,
            timeout=None,
            wait_initial=0.5,
            wait_max=30.0,
            wait_jitter=0.5,
        ):
            with attempt:
                return parse(self._answer(parameters), self.url)
        raise AssertionError  # the last attempt returns or raises

    def _answer(self, parameters: Mapping[str, str | int]) -> bytes:
        """Body of one good answer."""
        symbol = str(parameters.get("symbol", ""))
        try:
            self._budget.spend(self.host.weight, per_minute=self._per_minute)
        except HostClosedError as closed:
            raise self._refused(closed.seconds, symbol) from None
        address = self._address.with_query(urlencode(parameters))
        try:
            with self._http.ask("GET", address, self._headers) as answer:
                body = answer.read(LARGEST_ANSWER_BYTES)
        except RequestFailedError as error:
            sentence = f"`{self.url}` gave no answer for `{symbol}` ({error})"
            raise TransientSourceError(
                with_hint(sentence, _LATER), symbol=symbol, url=self.url
            ) from error
        self._take_over(answer)
        code, said = _complaint_of(body)
        said = scrubbed(said, self._address)[:200]  # a server may repeat what it was asked
        if answer.status != OK or code is not None:
            raise self._error(answer, code, said, symbol)
        return body

    def _take_over(self, answer: Answer) -> None:
        """Clock and used weight, as the exchange says them."""
        second = 0.0
        date = date_of(answer.header("Date"))
        if date is not None:
            second = float(date.second)
            # The header leaves out parts of a second: half a one, on average.
            skew = self._now() - date.timestamp() - 0.5
            if abs(skew) > LARGEST_SKEW_S >= abs(self.clock_skew_s or 0.0):
                message = (
                    f"the clock of this machine is {abs(skew):.0f} s "
                    f"{'ahead of' if skew > 0 else 'behind'} that of `{self.url}`; the exchange's "
                    f"is taken\n\nhint: let the system set its clock"
                )
                warnings.warn(message, ClockSkewWarning, stacklevel=2)
            self.clock_skew_s = skew
        used = answer.header("X-MBX-USED-WEIGHT-1M")
        if re.fullmatch("[0-9]{1,9}", used):
            self._budget.correct(int(used), per_minute=self._per_minute, seconds_left=60.0 - second)

    def _error(self, answer: Answer, code: int | None, said: str, symbol: str) -> SourceError:
        """The answer as one of the errors that callers tell apart."""
        status = answer.status
        if status in (TOO_MANY, BANNED):
            wait = self._seconds_of(answer.header("Retry-After"), status)
            self._budget.close(wait)
            if wait > LONGEST_WAIT_S:
                return self._refused(wait, symbol)
        given = f"{code}: {said}" if code is not None else f"status {status}"
        sentence = f"`{self.url}` refuses `{symbol}` ({given})"
        if status in (TOO_MANY, BANNED) or status >= SERVER_FAULT or code in OVERLOADED:
            sentence = f"`{self.url}` could not answer for `{symbol}` ({given})"
            return TransientSourceError(with_hint(sentence, _LATER), symbol=symbol, url=self.url)
        hint = "a symbol of this market? the base address is RANGEBAR_BINANCE_REST_URL"
        if status in (FORBIDDEN, NOT_FROM_HERE):
            hint = (
                "the exchange does not serve this address or place: another base address for "
                "public data may (RANGEBAR_BINANCE_REST_URL)"
            )
        return SourceError(with_hint(sentence, hint), symbol=symbol, url=self.url)

    def _seconds_of(self, retry_after: str, status: int) -> float:
        """How long to leave the exchange alone: seconds, or until a date."""
        if re.fullmatch(r"[0-9]{1,9}(\.[0-9]+)?", retry_after):
            return float(retry_after)
        date = date_of(retry_after)
        if date is not None:
            return max(0.0, date.timestamp() - self.server_time().timestamp())
        return SHORTEST_BAN_S if status == BANNED else 60.0

    def _refused(self, seconds: float, symbol: str) -> RefusedError:
        until = self.server_time() + timedelta(seconds=seconds)
        sentence = f"`{self.url}` is not to be asked before `{until:%Y-%m-%d %H:%M:%S} UTC`"
        hint = "other programs at this address share its limit; RANGEBAR_REST_WEIGHT_PER_MINUTE"
        return RefusedError(with_hint(sentence, hint), symbol=symbol, url=self.url)


def _may_get_better(error: Exception) -> bool:
    """Whether another try makes sense."""
    return isinstance(error, (TransientSourceError, CorruptSourceError)) and not isinstance(
        error, RefusedError
    )


def _complaint_of(body: bytes) -> tuple[int | None, str]:
    """Code and words of an answer that is a complaint: `{"code": -1121, "msg": "…"}`."""
    if not body.lstrip().startswith(b"{"):
        return None, ""
    try:
        answer: Any = json.loads(body)
    except (ValueError, RecursionError):
        return None, ""
    code, said = answer.get("code"), answer.get("msg", "")
    # JSON may hold halves of characters, which no terminal and no file takes.
    words = str(said).encode("utf-8", "replace").decode()
    return (code, words) if isinstance(code, int) else (None, "")
