"""An exchange in a box: a real HTTP server on loopback that serves one tape of trades.

```python
import re
from exchange import Exchange, Limits, QuoteTape, Tape, faults, spoil, write_archive

tape = Tape.generate("BTCUSDT", "2024-12-30", days=4, per_day=3_000, seed=1, empty_days=["2025-01-01"])
tape.day("2024-12-31")             # the truth, a frame in TRADES_SCHEMA; .between(start, end), .ids(a, b)
tape.source_absent                 # spans of ids (both ends included) that exist nowhere
tape.archive_lacks                 # spans that REST has and no archive holds
first, last = tape.id_span("2025-01-02")
tape = tape.with_absent(first + 10, first + 12).with_archive_lack(last - 5, last)

coin = Tape.generate("BTCUSD_PERP", market="cm", price_digits=1, quantity_digits=0)
fx = QuoteTape.generate("EURUSD", "2024-12-01", "2025-02-01")           # Exness

write_archive(folder, tape, coin, fx)              # for f"file://{folder}" addresses

with Exchange(tape, coin, fx) as exchange:          # the fixture `exchange` gives one, and sets the environment
    exchange.url                                   # stands for all three hosts; exchange.environment: the variables
    exchange.now = "2025-01-01"                    # archives appear at 10:00 of the next day; no trade after now
    day_zip = exchange.path("2024-12-31")          # "/data/spot/daily/…zip"; monthly=True; market="cm"
    exchange.fail(day_zip, faults.status(503), times=2)
    exchange.fail(day_zip, faults.truncated(0.5))                       # the third request
    exchange.fail(day_zip + ".CHECKSUM", faults.wrong_checksum(), times=None)
    exchange.fail("/aggTrades", faults.too_many(retry_after=1), faults.trickle(), after=3)
    exchange.fail(re.compile(r"fromId=\\d*7$"), faults.repeated_page())
    exchange.fail(lambda request: request.method == "HEAD", faults.drop())
    exchange.republish(day_zip, spoil.conflicting(row=10))      # the checksum follows; or any bytes -> bytes
    exchange.republish(day_zip, spoil.doubled(), lag="checksum")        # the old sum until caches are passed by
    exchange.put(day_zip, None)                    # gone, and its checksum with it
    [(request.method, request.target, request.status) for request in exchange.asked(".zip")]

with Exchange(tape, limits=Limits(weight=40, window_s=1.0)):            # 429 after ten pages, 418 if one goes on
    ...
```

`exchange.client` has `ask(box, target, **headers)` and `page(...)`, `exchange.fixtures` the fixtures
`exchange`, `exchange_tape` and `quick_retries`. By default it is noon of the day after the last tick.
A rule counts HEAD requests too unless it is given `method="GET"`.

A text matches a part of path and query; one that ends in `.zip` must end the path. A fault is any
function `(request, answer) -> answer`, so that a test can write its own with `dataclasses.replace`.
Errors of the box itself are raised when its `with` ends.

A WebSocket server stands beside it, on a port of its own:

```python
from exchange import stream_faults

tape = Tape.around(datetime(2025, 1, 2, 12, tzinfo=UTC), before=timedelta(hours=1))
with Exchange(tape) as exchange:                   # now: 12:00; REST answers say so in `Date`
    exchange.streams.url                           # ws://127.0.0.1:P; also in exchange.environment
    exchange.streams.wait_open(1)                  # a client is there
    exchange.play(timedelta(seconds=30))           # trades of (now, now + 30 s], at once
    exchange.play(timedelta(seconds=30), rate=500) # or so many a second; speed=60: time 60 times as fast
    with exchange.live(speed=60): ...              # the same in a thread
    streams = exchange.streams
    streams.fail("/stream?streams", stream_faults.refused(418, retry_after=20))   # a handshake
    streams.fail("btcusdt@aggTrade", stream_faults.lost(), after=10, times=3)     # messages 11 to 13
    streams.fail("id=3370000042", stream_faults.cut("utf8"))
    streams.strike(stream_faults.close(1008))      # all open connections, now
    streams.down(); streams.up()                   # refuses connections meanwhile
    exchange.rest.behind = timedelta(seconds=60)   # REST knows only older trades

with Exchange(tape, tls=True) as exchange: ...     # https and wss; environment has SSL_CERT_FILE
proxy = exchange.proxy()                           # .url; .refuse(403), .cut(), .fall_silent(), .close()
```

`exchange.streams.connections` are all clients so far, with what each sent and received.
"""

from __future__ import annotations

from exchange import faults, spoil, stream_faults
from exchange.box import Exchange
from exchange.clock import Clock
from exchange.quotes import QuoteTape
from exchange.rest import Limits
from exchange.script import Fault, Rule
from exchange.shelf import write_archive
from exchange.tape import Tape, unit_of
from exchange.wire import Answer, Request

__all__ = [
    "Answer",
    "Clock",
    "Exchange",
    "Fault",
    "Limits",
    "QuoteTape",
    "Request",
    "Rule",
    "Tape",
    "faults",
    "spoil",
    "stream_faults",
    "unit_of",
    "write_archive",
]
