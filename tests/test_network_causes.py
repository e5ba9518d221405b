"""A source that cannot be reached: real sockets that refuse, are silent, or speak TLS of their own."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

import rangebar_polars as rb
from rangebar_polars.cli import main
from rangebar_polars.exceptions import TransientSourceError
from rangebar_polars.fetch.failures import patience
from rangebar_polars.fetch.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DAY = "2024-01-02"
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Use no proxy of the machine, one try, and a folder of its own."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("RANGEBAR_HTTP_TRIES", "1")
    monkeypatch.setenv("RANGEBAR_CACHE_DIR", str(tmp_path / "cache"))


def refusing_port() -> int:
    """Return a port of loopback at which nothing listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def listening() -> Iterator[socket.socket]:
    """Yield a socket that connects and never answers, since nobody accepts."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)
        yield server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a self-signed certificate of 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    path = tmp_path_factory.mktemp("tls") / "own.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    words += ["-keyout", "-", "-out", "-", "-subj", "/CN=127.0.0.1"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1"]
    made = subprocess.run(words, capture_output=True, check=True)
    path.write_bytes(made.stdout)
    return path


@contextmanager
def tls_server(certificate: Path) -> Iterator[str]:
    """Yield the address of a server with its own certificate that answers 404."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(8)

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                try:
                    with context.wrap_socket(connection, server_side=True) as secure:
                        secure.recv(4096)
                        secure.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                except OSError:
                    connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
    thread.join(60)


def fetch(url: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", url)
    return main(["fetch", "BTCUSDT", DAY, DAY])


def is_one_paragraph(text: str) -> bool:
    """Return whether an error is one paragraph and its hint, without the names of libraries."""
    _, found, message = text.partition("rangebar: BTCUSDT")
    assert found
    sentence, _, hint = message.partition("\n\nhint: ")
    libraries = ("httpcore", "httpx", "obstore", "stamina", "tenacity", "Traceback", "Errno")
    return (
        "\n" not in sentence.strip()
        and "\n" not in hint.strip()
        and not any(name in text for name in libraries)
    )


def test_a_refused_connection_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"http://127.0.0.1:{refusing_port()}"
    assert fetch(url, monkeypatch) == 1
    heard = capsys.readouterr().err
    assert f"BTCUSDT {DAY}: `{url}/" in heard
    assert "connection refused" in heard
    assert is_one_paragraph(heard)


def test_a_name_that_does_not_resolve_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fetch("http://no-such-host.invalid", monkeypatch) == 1
    heard = capsys.readouterr().err
    assert "DNS: the name of no-such-host.invalid is not known" in heard
    assert is_one_paragraph(heard)


def test_a_certificate_of_its_own_is_named_and_can_be_trusted(
    certificate: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tls_server(certificate) as url:
        assert fetch(url, monkeypatch) == 1
        heard = capsys.readouterr().err
        assert "TLS: the certificate of 127.0.0.1" in heard
        assert "self-signed" in heard or "self signed" in heard
        assert "SSL_CERT_FILE" in heard
        assert is_one_paragraph(heard)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert not Transport(url).exists("data")


def test_http_where_tls_is_expected_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with listening() as server:
        threading.Thread(target=answer_plainly, args=(server,), daemon=True).start()
        assert fetch(f"https://127.0.0.1:{server.getsockname()[1]}", monkeypatch) == 1
    heard = capsys.readouterr().err
    assert "TLS: 127.0.0.1" in heard
    assert is_one_paragraph(heard)


def answer_plainly(server: socket.socket) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(4096)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def test_a_proxy_that_refuses_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{refusing_port()}")
    assert fetch("http://archive.example", monkeypatch) == 1
    heard = capsys.readouterr().err
    assert "the proxy http://127.0.0.1" in heard
    assert "HTTP_PROXY" in heard
    assert "secret" not in heard
    assert is_one_paragraph(heard)


def test_a_silent_server_is_announced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The server hangs up once the line is written, so no timeout competes with it."""
    write, written = patience._write, threading.Event()

    def noted(text: str) -> None:
        write(text)
        written.set()

    def hang_up_after_the_line(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            written.wait()

    monkeypatch.setattr(patience, "_write", noted)
    monkeypatch.setattr(patience, "FIRST_S", 0.05)
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "3600")
    with listening() as server:
        threading.Thread(target=hang_up_after_the_line, args=(server,), daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        assert fetch(url, monkeypatch) == 1
    heard = capsys.readouterr().err
    assert f"rangebar: waiting for `{url}/" in heard
    assert "try 1 of 1" in heard
    assert is_one_paragraph(heard)


def test_a_silent_server_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANGEBAR_HTTP_TIMEOUT_S", "1")
    with listening() as server:
        assert fetch(f"http://127.0.0.1:{server.getsockname()[1]}", monkeypatch) == 1
    heard = capsys.readouterr().err
    assert "timeout: " in heard
    assert is_one_paragraph(heard)


def test_the_line_comes_within_three_seconds_and_stops_with_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lines, waits, threads = [], [], []
    failed, written = threading.Event(), threading.Event()

    class Answered(threading.Event):
        """An answer whose first wait ends as soon as a try has failed."""

        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            if len(waits) == 1:
                assert failed.wait(60)
                return False
            return super().wait(timeout)

    def thread(**options: object) -> threading.Thread:
        threads.append(threading.Thread(**options))
        return threads[-1]

    def write(text: str) -> None:
        lines.append(text)
        written.set()

    monkeypatch.setattr(patience, "threading", SimpleNamespace(Event=Answered, Thread=thread))
    monkeypatch.setattr(patience, "_write", write)
    with patience.announced("http://waiting.example/x", 5) as attempted:
        attempted.failed("connection refused")
        failed.set()
        assert written.wait(60)
    (waiting,) = threads
    waiting.join(60)
    assert not waiting.is_alive()
    assert lines == ["waiting for `http://waiting.example/x`: connection refused (try 2 of 5)"]
    assert waits[0] <= 3
    assert waits[1:] == [patience.NEXT_S]


def test_python_shows_no_chain_of_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANGEBAR_BINANCE_ARCHIVE_URL", f"http://127.0.0.1:{refusing_port()}")
    with pytest.raises(TransientSourceError, match="connection refused") as caught:
        rb.fetch_ticks("BTCUSDT", DAY, DAY, verbose=False)
    chain, link = [], caught.value
    while link is not None:
        chain.append(link)
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    assert [type(one).__module__.partition(".")[0] for one in chain] == ["rangebar_polars"] * len(
        chain
    )
    assert str(caught.value.day) == DAY
