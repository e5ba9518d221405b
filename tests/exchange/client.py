"""A plain client of the box, for a test that wants to see what comes as it comes."""

from __future__ import annotations

import http.client
import json
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from exchange.box import Exchange

__all__ = ["Got", "ask", "page"]


class Got(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes


def ask(box: Exchange, target: str, method: str = "GET", **headers: str) -> Got:
    """Ask on a connection of its own; errors of the connection are raised."""
    connection = http.client.HTTPConnection(box.url.removeprefix("http://"), timeout=600)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request(method, target, headers=names)
        with connection.getresponse() as response:
            return Got(response.status, response.headers, response.read())
    finally:
        connection.close()


def page(box: Exchange, target: str, **headers: str) -> list[dict]:
    got = ask(box, target, **headers)
    assert got.status == 200, got
    return json.loads(got.body)
