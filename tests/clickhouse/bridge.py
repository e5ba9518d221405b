"""A ClickHouse server for tests: the embedded engine behind ClickHouse's HTTP protocol, with faults.

Run it as a program; it prints its port. After a GET of `/_faults?match=INSERT&faults=503,drop-after`,
the next statements that contain the word fail, in this order:

- `503`: refused without being executed;
- `drop-before`: the connection is closed, nothing is executed;
- `drop-after`: executed, then the connection is closed without an answer;
- `drop-mid`: executed, then half of the answer is sent;
- `ok`: no fault.

A GET of `/_drop?prefix=test_` drops the databases whose names begin so. The engine looks after each
table that it has, so many tables keep it busy although nobody asks for them.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import socket
import sys
import tempfile
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import chdb

TRANSPORT = {
    "query", "database", "default_format", "query_id", "session_id", "session_timeout",
    "session_check", "quota_key", "user", "password", "role", "compress", "decompress",
    "wait_end_of_query", "buffer_size", "client_protocol_version", "http_headers_progress_interval_ms",
    "send_progress_in_http_headers", "enable_http_compression",
    "cancel_http_readonly_queries_on_client_close",
}  # fmt: skip
FORMAT = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
INSERT = re.compile(
    rb"^\s*INSERT\s+INTO\s+(.*?)\s+FORMAT\s+(\w+)[ \t]*(?:\r?\n)?", re.IGNORECASE | re.DOTALL
)


def quoted(text):
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def decoded(body, encoding):
    if encoding == "lz4":
        import lz4.frame

        return lz4.frame.decompress(body)
    if encoding == "gzip":
        return gzip.decompress(body)
    if encoding == "zstd":
        try:
            from compression import zstd
        except ImportError:
            from backports import zstd
        return zstd.decompress(body)
    return body


def execute(connection, parameters, sql, data):
    """Return the body of the answer, its format, and the summary."""
    if (name := parameters.get("database")) and name != "__default__":
        connection.query(f"USE `{name}`")
    bound = {k[6:]: v for k, v in parameters.items() if k.startswith("param_")}
    settings = {
        k: v
        for k, v in parameters.items()
        if k not in TRANSPORT and k.isidentifier() and not k.startswith("param_")
    }
    if match := INSERT.match(sql):
        return insert(connection, settings, match, sql[match.end() :] + data)
    sql += b"\n" + data if data else b""
    try:
        for name, value in settings.items():
            connection.query(f"SET {name}={quoted(value)}")
        if found := FORMAT.search(sql):
            kind = found[1].decode()
            return connection.query(sql, kind, params=bound).bytes() or b"", kind, {}
        body = connection.query(sql, "TabSeparatedWithNames", params=bound).bytes() or b""
        # The answer of a statement without a result has no format header.
        return (body[body.find(b"\n") + 1 :], "TabSeparated", {}) if body else (body, None, {})
    finally:
        for name in settings:
            connection.query(f"SET {name}=DEFAULT")


def insert(connection, settings, match, content):
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        listed = ", ".join(f"{name}={quoted(value)}" for name, value in settings.items())
        clause = f" SETTINGS {listed}" if listed else ""
        done = connection.query(
            f"INSERT INTO {match[1].decode()} FROM INFILE {quoted(file.name)}{clause} "
            f"FORMAT {match[2].decode()}",
            "TabSeparated",
        )
    return b"", None, {"written_rows": str(done.rows_read())}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Send head and body in one packet, without waiting for the acknowledgement of the head.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def reply(self, code, body, *, cut=False, **headers):
        self.send_response(code)
        headers |= {"X_ClickHouse_Timezone": "UTC", "Content_Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

    def do_GET(self):
        url = urlsplit(self.path)
        if url.path == "/ping":
            self.reply(200, b"Ok.\n")
        elif url.path == "/_faults":
            query = dict(parse_qsl(url.query, keep_blank_values=True))
            left = len(self.server.faults)
            self.server.match = query["match"].encode()
            self.server.faults[:] = [fault for fault in query["faults"].split(",") if fault]
            self.reply(200, str(left).encode())
        elif url.path == "/_drop":
            self.server.drop(dict(parse_qsl(url.query))["prefix"])
            self.reply(200, b"")
        else:
            self.serve(b"")

    def do_POST(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            self.serve(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            return
        body = io.BytesIO()
        while size := int(self.rfile.readline(), 16):
            body.write(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self.serve(body.getvalue())

    def fault(self, parameters, body):
        head = parameters.get("query", "").encode() + body[:300]
        if self.server.match not in head or not self.server.faults:
            return "ok"
        return self.server.faults.pop(0)

    def serve(self, body):
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        body = decoded(body, self.headers.get("Content-Encoding"))
        fault = self.fault(parameters, body)
        if fault == "503":
            self.reply(503, b"overloaded")
            return
        if fault == "drop-before":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        statement = parameters.get("query")
        connection = self.server.take()
        try:
            parts = (statement.encode(), body) if statement else (body, b"")
            answer, kind, summary = execute(connection, parameters, *parts)
        except RuntimeError as error:
            text = str(error)
            code = re.search(r"Code: (\d+)", text)
            number = code[1] if code else "1000"
            self.reply(
                500, text[text.find("Code: ") :].encode(), X_ClickHouse_Exception_Code=number
            )
            return
        finally:
            self.server.idle.append(connection)
        if fault == "drop-after":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        headers = {"X_ClickHouse_Format": kind} if kind else {}
        headers["X_ClickHouse_Query_Id"] = parameters.get("query_id", str(uuid.uuid4()))
        headers["X_ClickHouse_Summary"] = json.dumps(summary)
        self.reply(200, answer, cut=fault == "drop-mid", **headers)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, path):
        super().__init__(("127.0.0.1", 0), Handler)
        self.path = path
        self.faults, self.match = [], b"INSERT"
        # Settings are reset after a request, so that its connection serves the next one.
        self.idle = [chdb.connect(path)]

    def take(self):
        try:
            return self.idle.pop()
        except IndexError:
            return chdb.connect(self.path)

    def drop(self, prefix):
        connection = self.take()
        names = connection.query("SHOW DATABASES", "TabSeparated").data().split()
        for name in names:
            if name.startswith(prefix):
                connection.query(f"DROP DATABASE IF EXISTS `{name}`")
        self.idle.append(connection)


def main():
    server = Server(sys.argv[1])
    print(server.server_address[1], flush=True)
    # The parent holds the other end: the bridge ends with it.
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    server.serve_forever()


if __name__ == "__main__":
    main()
