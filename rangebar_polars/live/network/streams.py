"""The streams of the symbols of one connection: which of two connections stays, and how late they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rangebar_polars._files.failpoints import Step, failpoint
from rangebar_polars._utils import clock
from rangebar_polars.fetch.binance.stream import Rejected, Sentinel, StreamTrade
from rangebar_polars.live.network.connector import Connected, Connector, Disconnected
from rangebar_polars.live.protocol.lag import Lag
from rangebar_polars.live.protocol.replacement import Decision, Replacement, ReplaceReason
from rangebar_polars.live.protocol.states import Reason
from rangebar_polars.live.protocol.trades import Trade

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rangebar_polars.fetch.binance.stream import StreamEvent
    from rangebar_polars.live.network.connection import StreamConnection
    from rangebar_polars.live.network.connector import NotConnected
    from rangebar_polars.live.protocol.exchange_time import ExchangeTime
    from rangebar_polars.live.symbol import LiveSymbol

__all__ = ["StreamReports", "Streams"]

#: Columns of a `StreamTrade` that make a trade.
_TRADE = len(Trade._fields)


class StreamReports(Protocol):
    """Where streams say what happened. No call waits or raises."""

    def wake(self, symbol: LiveSymbol) -> None:
        """Call `LiveSymbol.advance` soon."""
        ...

    def not_connected(self, reason: str, text: str) -> None:
        """Take why no connection is open. The text names the address."""
        ...

    def reconnected(self, symbols: Mapping[str, LiveSymbol], reason: str, away_s: float) -> None:
        """Take that a connection is open again after another one had ended."""
        ...


class Streams:
    """The connections of at most 200 symbols, two of them while one replaces the other.

    Parameters
    ----------
    market
        "spot", "um" or "cm".
    symbols
        The symbols by their names.
    exchange_time
        The time of the exchange.
    max_lag_s
        Longest tolerated lag of messages.
    reports
        Where it says what happened.

    Raises
    ------
    MissingExtraError
        `websockets` or `msgspec` is not installed.
    SettingError
        A setting is not valid.
    """

    def __init__(
        self,
        market: str,
        symbols: Mapping[str, LiveSymbol],
        exchange_time: ExchangeTime,
        max_lag_s: float,
        reports: StreamReports,
    ) -> None:
        self.symbols = symbols
        #: Connections that ended, by reason. The numbers never fall.
        self.reconnects: dict[str, int] = {}
        #: Whether the end of a connection is no failure.
        self.is_stopping = False
        #: Why the last connection ended or could not be opened; empty while one is open.
        self.last_error = ""
        self._exchange_time = exchange_time
        self._reports = reports
        self._lag = Lag(max_lag_s)
        self._replacement: Replacement | None = None
        self._new: StreamConnection | None = None
        self._old: tuple[StreamConnection, ...] = ()
        self._lost_at: float | None = None
        self._lost_reason = ""
        self._checked_at = float("-inf")
        self.connector = Connector(market, list(symbols), sink=self._take, on_change=self._changed)

    @property
    def connections(self) -> list[StreamConnection]:
        """Open connections, the oldest first."""
        return self.connector.connections

    @property
    def lag_s(self) -> float | None:
        """The lag of the last message; None before the first one."""
        return self._lag.last_s

    async def run(self) -> None:
        """Connect and read until it is cancelled."""
        await self.connector.run()

    # What the engine says

    def silent(self) -> None:
        """Replace the connection, which delivers nothing of a symbol although REST is ahead."""
        self._replace(ReplaceReason.SILENT)

    def found_equal(self) -> None:
        """Note that a freshness check of one of the symbols found equal ids."""
        self._lag.disproved(clock.monotonic())
        if self._replacement is not None:
            self._replacement.found_equal()

    def check(self) -> None:
        """Judge lag and replacement. The engine calls it about once a second."""
        now = clock.monotonic()
        applied = [one.applied_at for one in self.symbols.values() if one.applied_at is not None]
        if applied and max(applied) >= self._checked_at:
            self.connector.trades_applied()
        self._checked_at = now
        if self._lag.is_behind(now):
            self._replace(ReplaceReason.LAGGING)
            self._note(Reason.LAGGING, applies=True)
        self._note(Reason.TIME_UNIT, applies=self.connector.has_wrong_unit)
        self._decide(now)

    # What the connections say

    def _take(self, connection: StreamConnection, event: StreamEvent) -> None:
        if isinstance(event, StreamTrade):
            symbol = self.symbols.get(event.symbol)
            if symbol is not None:
                symbol.take(Trade._make(event[:_TRADE]))
                self._judge(connection, symbol, event)
                self._reports.wake(symbol)
        elif isinstance(event, Sentinel):
            symbol = self.symbols.get(event.symbol)
            if symbol is not None:
                symbol.take(Trade(0, 0.0, 0.0, event.id, -1, -1, is_buyer_maker=False))
                self._reports.wake(symbol)
        elif isinstance(event, Rejected):
            symbol = self.symbols.get(event.symbol)
            if symbol is not None:
                symbol.counters.messages_rejected += 1

    def _judge(self, connection: StreamConnection, symbol: LiveSymbol, trade: StreamTrade) -> None:
        now = clock.monotonic()
        if trade.event_us is not None and connection is not self._new:
            exchange = self._exchange_time.at(now)
            if exchange is not None:
                lag_s = exchange.timestamp() - trade.event_us / 1e6
                self._lag.measured(lag_s, now, is_queue_empty=not connection.has_waiting)
        if self._replacement is None:
            return
        if connection is self._new:
            applied_id = -1 if symbol.sequencing is None else symbol.sequencing.applied_id
            self._replacement.new_delivered(symbol.name, trade.id, applied_id)
            self._decide(now)
        else:
            self._replacement.old_delivered(symbol.name)

    def _changed(self, change: Connected | Disconnected | NotConnected) -> None:
        if self.is_stopping:
            return
        now = clock.monotonic()
        if isinstance(change, Connected):
            failpoint(Step.CONNECTED)
            self.last_error = ""
            if change.replaces:
                self._new, self._old = change.connection, change.replaces
                self._replacement = Replacement(now)
            else:
                self._note_in_time()
            if self._lost_at is not None:
                self._reports.reconnected(self.symbols, self._lost_reason, now - self._lost_at)
                self._lost_at = None
        elif isinstance(change, Disconnected):
            reason = change.lost.reason.value
            self.reconnects[reason] = self.reconnects.get(reason, 0) + 1
            if change.connection in self._old:
                # The new one is alone now, and its messages are judged from here on.
                self._note_in_time()
            if change.connection is self._new or change.connection in self._old:
                self._end_replacement()
            if change.is_last:
                self._note_lost(change.lost.text, reason, now)
        else:
            self._note_lost(change.lost.text, change.lost.reason.value, now)
        self._note(Reason.DISCONNECTED, applies=not self.connections and self._lost_at is not None)

    def _note_lost(self, text: str, reason: str, now: float) -> None:
        self.last_error = text
        self._reports.not_connected(reason, text)
        if self._lost_at is None:
            self._lost_at, self._lost_reason = now, reason

    # Replacement

    def _replace(self, reason: ReplaceReason) -> None:
        if self._replacement is None:
            for connection in self.connections:
                self.connector.replace(connection, reason)

    def _decide(self, now: float) -> None:
        if self._replacement is None:
            return
        match self._replacement.decide(now):
            case Decision.CLOSE_OLD:
                failpoint(Step.CONNECTION_REPLACED)
                for connection in self._old:
                    self.connector.retire(connection)
                self._note_in_time()
                self._end_replacement()
            case Decision.DROP_NEW if self._new is not None:
                self.connector.drop(self._new)
                self._end_replacement()

    def _note_in_time(self) -> None:
        self._lag.replaced()
        self._note(Reason.LAGGING, applies=False)

    def _end_replacement(self) -> None:
        self._replacement, self._new, self._old = None, None, ()

    def _note(self, reason: Reason, *, applies: bool) -> None:
        for symbol in self.symbols.values():
            symbol.note(reason, applies=applies)
            self._reports.wake(symbol)
