"""Whole files from a web server or a local folder, through obstore.

Two layers try again. obstore repeats a request that got no answer, or one of the kind "later"
(5xx, 408, 429); stamina repeats a download whose body broke off or stood still, which obstore
can only mend where the server knows ranges.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rangebar_polars._extra import import_extra
from rangebar_polars.config import settings
from rangebar_polars.exceptions import SettingError, TransientSourceError, with_hint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from obstore.store import ObjectStore

__all__ = ["Fetched", "Transport"]

CONNECT_TIMEOUT = timedelta(seconds=10)
# A month of a busy symbol takes as long as it takes; silence is what ends a download.
WHOLE_TIMEOUT = timedelta(hours=6)
RETRIES_END = timedelta(minutes=5)
LONGEST_WAIT_S = 30.0
UNCACHED = {"cache-control": "no-cache", "pragma": "no-cache"}
NO_TIME = datetime.fromtimestamp(0, UTC)  # what obstore says where the server says none


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file as it was fetched, and what the server says about it."""

    content: bytes
    #: Empty where the server gives none.
    etag: str = ""
    #: ISO 8601, UTC; empty where the server gives none.
    last_modified: str = ""


class Transport:
    """Files below one address: `http://`, `https://` or `file://`.

    Parameters
    ----------
    url
        The address that paths are relative to.
    store
        Any store of obstore instead of the one that the address stands for.
    tries
        How often a file is asked for; the setting `http_tries` by default.
    first_wait_s
        Seconds before the second try. The wait doubles with each one, up to 30 s, with jitter.

    Raises
    ------
    SettingError
        The address is of another kind, or names a folder that does not exist.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from rangebar_polars.fetch.transport import Transport
    >>> folder = Path(tempfile.mkdtemp())
    >>> _ = (folder / "a.txt").write_text("hello")
    >>> Transport(folder.as_uri()).get("a.txt").content
    b'hello'
    """

    def __init__(
        self,
        url: str,
        *,
        store: ObjectStore | None = None,
        tries: int | None = None,
        first_wait_s: float = 0.5,
    ) -> None:
        given = settings(http_tries=tries)
        self.url = url.rstrip("/")
        self.tries = given.http_tries
        self.first_wait_s = first_wait_s
        self._timeout = timedelta(seconds=given.http_timeout_s)
        self._given_store = store
        if store is None:
            self._check_address()

    def url_of(self, path: str) -> str:
        """Address of a file."""
        return f"{self.url}/{path}"

    def get(self, path: str, *, fresh: bool = False) -> Fetched:
        """The file at a path; with `fresh`, past whatever keeps copies on the way.

        Raises
        ------
        FileNotFoundError
            The server says that there is no such file.
        TransientSourceError
            No answer, a refusal, or a body that broke off, after all tries.
        """
        with answers(self.url_of(path)):
            import stamina

            store = self._uncached() if fresh else self._store
            for attempt in stamina.retry_context(
                on=BrokenBodyError,
                attempts=self.tries,
                timeout=None,
                wait_initial=self.first_wait_s,
                wait_max=LONGEST_WAIT_S,
                wait_jitter=self.first_wait_s,
            ):
                with attempt:
                    return whole(store, path)
        raise AssertionError  # stamina gives a result or raises

    def exists(self, path: str) -> bool:
        """Whether there is a file at a path.

        Raises
        ------
        TransientSourceError
            No answer, after all tries.
        """
        try:
            with answers(self.url_of(path)):
                import obstore

                obstore.head(self._store, path)
        except FileNotFoundError:
            return False
        return True

    @cached_property
    def _store(self) -> ObjectStore:
        if self._given_store is not None:
            return self._given_store
        if self._is_folder:
            from obstore.store import LocalStore

            return LocalStore(url2pathname(urlsplit(self.url).path))
        return self._http_store(self.url, {})

    def _uncached(self) -> ObjectStore:
        """The store, asking with a query that no cache has seen."""
        if self._given_store is not None or self._is_folder:
            return self._store
        return self._http_store(f"{self.url}?fresh={secrets.token_hex(4)}", UNCACHED)

    def _http_store(self, url: str, headers: dict[str, str]) -> ObjectStore:
        from obstore.store import HTTPStore

        first_wait = timedelta(seconds=self.first_wait_s)
        return HTTPStore(
            url,
            client_options={
                "allow_http": True,
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": self._timeout,
                "timeout": WHOLE_TIMEOUT,
                "default_headers": headers,
            },
            retry_config={
                "max_retries": self.tries - 1,
                "retry_timeout": RETRIES_END,
                "backoff": {
                    "init_backoff": first_wait,
                    "max_backoff": timedelta(seconds=LONGEST_WAIT_S),
                    "base": 2,
                },
            },
        )

    @property
    def _is_folder(self) -> bool:
        return urlsplit(self.url).scheme == "file"

    def _check_address(self) -> None:
        """Refuse an address that no file can ever come from."""
        from pathlib import Path

        parts = urlsplit(self.url)
        if parts.scheme in ("http", "https") and parts.netloc:
            return
        hint = "write https://host, http://host:port or file:///folder"
        if parts.scheme != "file":
            raise SettingError(with_hint(f"`{self.url}` is no address of a source", hint))
        # Without its folder, every day would look as if it had never been published.
        if not Path(url2pathname(parts.path)).is_dir():
            raise SettingError(with_hint(f"there is no folder `{self.url}`", hint))


class BrokenBodyError(Exception):
    """A body that ended early or stopped coming."""


def whole(store: ObjectStore, path: str) -> Fetched:
    """A file with all its bytes."""
    import obstore
    from obstore.exceptions import BaseError

    result = obstore.get(store, path)
    meta = result.meta
    try:
        content = result.bytes().to_bytes()
    except (BaseError, OSError) as error:
        raise BrokenBodyError(first_line(error)) from error
    if len(content) != meta["size"]:
        raise BrokenBodyError(f"{len(content)} bytes instead of {meta['size']}")
    changed = meta["last_modified"]
    return Fetched(content, meta["e_tag"] or "", "" if changed == NO_TIME else changed.isoformat())


@contextmanager
def answers(url: str) -> Iterator[None]:
    """Turn what obstore raises into the answers of a source; `FileNotFoundError` stays one."""
    import_extra("obstore", "fetch")
    import_extra("stamina", "fetch")
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"there is no file `{url}`") from error
    except (BaseError, BrokenBodyError, OSError) as error:
        raise TransientSourceError(
            with_hint(
                f"`{url}` could not be fetched: {first_line(error)}",
                "nothing is known about the file; try again later",
            ),
            url=url,
        ) from error


def first_line(error: BaseException) -> str:
    """What an error says, without the trace that obstore appends."""
    return str(error).partition("\n")[0].strip()
