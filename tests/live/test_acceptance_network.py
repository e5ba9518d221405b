"""Networks that fail beside the command `rangebar sidecar`, and a machine that sleeps."""

from __future__ import annotations

import signal
from datetime import timedelta

import pytest

from exchange import Exchange, Tape, stream_faults
from live.commands import Command
from live.market import day_start_of, this_moment, wait_for
from live.plain_truth import Truth
from rangebar_polars.storage.parquet import TickStorage
from repetitions import repeated

SYMBOL = "BTCUSDT"
THRESHOLDS = (250, 500)
RATE = 10.0
STREAM = "RANGEBAR_BINANCE_STREAM_URL"
MOST_CONNECTS = 60
ASLEEP = timedelta(hours=8)
#: Hours of the day at which the machine falls asleep: the day ends meanwhile, or does not.
HOURS = repeated([20], [2, 12, 16, 17, 20, 23])


def tape_of(now, **options):
    options = {"before": timedelta(minutes=10), "after": timedelta(minutes=30)} | options
    return Tape.around(now, **{"per_minute": 300, "volatility": 0.15} | options)


@pytest.fixture
def exchange():
    now = this_moment()
    with Exchange(tape_of(now), now=now) as found:
        yield found


def sidecar(exchange, folder, **options):
    options = {"symbols": [SYMBOL], "thresholds": THRESHOLDS, "rate": RATE} | options
    return Command(exchange, folder / "cache", folder, **options)


def finish(command, exchange):
    """Let time pass, stop the program, and judge its lines."""
    (tape,) = exchange.tapes
    start = day_start_of(exchange.now)
    exchange.play(timedelta(minutes=2))
    command.wait_applied(exchange)
    command.wait_ready()
    assert command.ended(signal.SIGTERM) == 0, command.said()
    assert "Traceback" not in command.said()
    for threshold in THRESHOLDS:
        lines = command.lines(SYMBOL, threshold)
        true = Truth.of(tape, threshold, [start], until=exchange.now)
        assert len(lines) > 3
        true.since(lines[0]["last_agg_trade_id"]).assert_equals(lines)


def wait_said(command, *words):
    """Wait until one event of the log has all the words."""
    wait_for(
        lambda: any(all(word in str(one) for word in words) for one in command.events()),
        lambda: (words, command.said(), command.get("/ready")),
    )


def wait_not_ready(command, *words):
    """Wait until `/ready` says that there is no connection, and why."""

    def says_so():
        status, text = command.get("/ready")
        return status == 503 and all(word in text for word in ("disconnected", *words))

    wait_for(says_so, lambda: (words, command.get("/ready"), command.said()))


def host_of(url):
    return url.partition("://")[2]


def test_a_name_that_is_not_known(exchange, tmp_path):
    """L19: the next address is taken, and the log names the first one."""
    urls = f"ws://no-such-host.invalid,{exchange.streams.url}"
    with sidecar(exchange, tmp_path, environment={STREAM: urls}) as command:
        command.wait_ready()
        wait_said(command, "no-such-host.invalid", "DNS")
        finish(command, exchange)


def test_a_port_that_refuses(exchange, tmp_path):
    """L19: at the start, and again later."""
    exchange.streams.down()
    host = host_of(exchange.streams.url)
    with sidecar(exchange, tmp_path) as command:
        wait_said(command, host, "refused")
        wait_not_ready(command, host, "refused")
        exchange.streams.up()
        command.wait_ready()
        exchange.play(timedelta(minutes=1))
        exchange.streams.down()
        wait_not_ready(command, host)
        exchange.streams.up()
        finish(command, exchange)
    assert exchange.streams.most_connects() <= MOST_CONNECTS


@pytest.mark.parametrize("tls", [True, "expired"])
def test_a_certificate_that_is_not_trusted(tls, exchange, tmp_path):
    """L19: the log names the address and the certificate; a trusted one is taken by the next start."""
    (tape,) = exchange.tapes
    with Exchange(tape, now=exchange.now, tls=tls) as secure:
        own = {STREAM: secure.streams.url}
        if tls == "expired":
            own["SSL_CERT_FILE"] = secure.environment["SSL_CERT_FILE"]
        with sidecar(exchange, tmp_path, environment=own) as command:
            wait_said(command, host_of(secure.streams.url), "certificate")
            wait_not_ready(command, host_of(secure.streams.url), "certificate")
            count = len(secure.streams.connections)
            wait_for(lambda: len(secure.streams.connections) > count + 1, command.said)
            assert command.ended(signal.SIGTERM) == 0, command.said()
            assert "Traceback" not in command.said()
        assert secure.streams.most_connects() <= MOST_CONNECTS
    with sidecar(exchange, tmp_path) as command:
        command.wait_ready()
        finish(command, exchange)


def test_a_proxy_that_refuses_and_that_dies(exchange, tmp_path):
    """L19."""
    proxy = exchange.proxy()
    proxy.refuse(407)
    own = {"ws_proxy": proxy.url, "no_proxy": "", "NO_PROXY": ""}
    with sidecar(exchange, tmp_path, environment=own) as command:
        wait_said(command, "the proxy refuses")
        wait_not_ready(command, "the proxy refuses")
        proxy.refuse(None)
        command.wait_ready()
        exchange.play(timedelta(minutes=1))
        proxy.cut()
        command.wait_applied(exchange)
        finish(command, exchange)
    assert set(proxy.asked) == {host_of(exchange.streams.url)}
    assert len(proxy.asked) <= MOST_CONNECTS
    dead = {**own, "ws_proxy": f"http://user:SeCrEt@{host_of(proxy.url)}"}
    proxy.close()
    with sidecar(exchange, tmp_path, environment=dead) as command:
        wait_said(command, host_of(proxy.url), "refused")
        assert command.ended(signal.SIGTERM) == 0, command.said()
        assert "SeCrEt" not in command.said()


@pytest.mark.parametrize("end", ["reset", "half_open"])
@pytest.mark.parametrize("hour", HOURS)
def test_a_machine_that_sleeps_for_8_hours(hour, end, tmp_path):
    """L28: the process stops, its wall clock jumps, and the connection is gone or seems to be there."""
    start = day_start_of(this_moment())
    now = start - timedelta(days=1) + timedelta(hours=hour)
    tape = tape_of(now, after=timedelta(hours=9), per_minute=10, volatility=0.05)
    days = sorted({day_start_of(now), day_start_of(now + ASLEEP)})
    options = {
        "options": ["--reset", "day", "--include-orphans", "--no-cache"],
        "asleep_s": ASLEEP.total_seconds(),
    }
    with Exchange(tape, now=now) as exchange, sidecar(exchange, tmp_path, **options) as command:
        command.wait_ready()
        command.process.send_signal(signal.SIGSTOP)
        exchange.streams.strike(getattr(stream_faults, end)())
        command.process.send_signal(signal.SIGUSR1)
        exchange.play(ASLEEP)
        command.process.send_signal(signal.SIGCONT)
        command.wait_applied(exchange)
        command.wait_ready()
        exchange.play(timedelta(minutes=20))
        command.wait_applied(exchange)
        assert command.ended(signal.SIGTERM) == 0, command.said()
        assert "Traceback" not in command.said()
        assert exchange.streams.most_connects() <= MOST_CONNECTS
        orphans = 0
        for threshold in THRESHOLDS:
            lines = command.lines(SYMBOL, threshold)
            true = Truth.of(tape, threshold, days, orphans=True, until=exchange.now)
            true.since(lines[0]["last_agg_trade_id"]).assert_equals(lines)
            assert len(lines) > 5
            orphans += [line["is_closed"] for line in lines].count(False)
        # The last trade of a day may end a bar of one series; then it leaves none.
        assert (orphans > 0) == (len(days) > 1)
    stored = TickStorage(tmp_path / "cache").list_days(SYMBOL)
    assert stored == [day.date() for day in days]
