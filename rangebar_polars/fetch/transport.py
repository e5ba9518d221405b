"""Download of whole files from a web server or a local folder.

A request is retried if there is no answer, if the status is 5xx, 408, 425 or 429, or if the body is
interrupted. A server that supports ranges then sends only the rest of the file.
"""

from __future__ import annotations

import re
import secrets
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from rangebar_polars._utils import clock
from rangebar_polars._utils.address import Address, fault_of, scrubbed
from rangebar_polars._utils.optional import import_extra
from rangebar_polars.config import settings
from rangebar_polars.exceptions import (
    NoAnswerError,
    SettingError,
    TransientSourceError,
    with_hint,
)
from rangebar_polars.fetch._http import HttpClient, RequestFailedError, date_of
from rangebar_polars.fetch.failures.patience import announced

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obstore.store import ObjectStore
    from stamina import Attempt

    from rangebar_polars.fetch._http import Answer
    from rangebar_polars.fetch.failures.patience import Attempted

__all__ = ["Fetched", "FileFacts", "Transport"]

LONGEST_WAIT_S = 30.0
#: Eight times the size of a month of the busiest symbol.
LARGEST_FILE_BYTES = 8 << 30
UNCACHED = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
#: Compressing a zip file again would not make it smaller.
AS_IT_IS = {"Accept-Encoding": "identity"}

OK, PARTIAL, MISSING, NO_SUCH_RANGE = 200, 206, 404, 416
NO_HEAD = frozenset({405, 501})
LATER = frozenset({408, 425, 429})
SERVER_FAULT = 500


@dataclass(frozen=True, slots=True)
class Fetched:
    """The content of a fetched file, and its metadata."""

    content: bytes
    #: Empty if the server sends none.
    etag: str = ""
    #: ISO 8601, UTC; empty if the server sends none.
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """The metadata of a file, without its content."""

    #: Empty if the server sends none.
    etag: str = ""
    #: None if the server sends none.
    last_modified: datetime | None = None


class Transport:
    """Access to the files below one address: `http://`, `https://` or `file://`.

    Parameters
    ----------
    url
        The address that paths are relative to. It may have a user and a password, or a query that
        is added to each request. These are never shown or recorded.
    store
        A store of the library obstore, which is used instead of the address.
    tries
        Number of tries of a request; the setting `http_tries` by default.
    first_wait_s
        Seconds before the second try. The wait doubles each time, up to 30 s, with jitter.

    Raises
    ------
    SettingError
        The address is not valid, or its folder does not exist.

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
        chosen = settings(http_tries=tries)
        self._address = Address(url.rstrip("/"))
        self.tries = chosen.http_tries
        self.first_wait_s = first_wait_s
        self._store = store
        if store is None:
            self._check_address()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        """The address without its secrets."""
        return str(self._address)

    def url_of(self, path: str) -> str:
        """Return the address of a file without its secrets."""
        return str(self._address.joined(path))

    def get(self, path: str, *, fresh: bool = False, largest_bytes: int | None = None) -> Fetched:
        """Fetch the file at a path. `fresh` bypasses caches.

        A file of more than `largest_bytes`, 8 GiB by default, is not fetched from a web server.

        Raises
        ------
        FileNotFoundError
            The server has no such file.
        TransientSourceError
            There was no answer, an error status or an interrupted body, after all tries.
        """
        if self._store is not None:
            return _from_store(self._store, path, self.url_of(path))
        if self._folder is not None:
            return _from_folder(self._folder / path, self.url_of(path))
        address = self._address.joined(path)
        if fresh:
            address = address.with_query(f"fresh={secrets.token_hex(4)}")
        partial = _Partial(largest_bytes or LARGEST_FILE_BYTES)
        with announced(self.url_of(path), self.tries) as attempted:
            for attempt in self._attempts():
                with attempt, self._failures(path, "could not be fetched", attempted):
                    headers = AS_IT_IS | (UNCACHED if fresh else {}) | partial.headers()
                    with self._client.ask("GET", address, headers) as answer:
                        self._check_status(answer, path, OK, *partial.statuses)
                        attempted.answered()
                        return partial.finish(answer)
        raise AssertionError  # the last attempt returns or raises

    def exists(self, path: str) -> bool:
        """Return whether there is a file at a path.

        Raises
        ------
        TransientSourceError
            There was no answer, or one that says neither yes nor no, after all tries.
        """
        return self.facts(path) is not None

    def facts(self, path: str) -> FileFacts | None:
        """Return the metadata of a file; None if there is no file.

        Raises
        ------
        NoAnswerError
            The connection failed, or ended before an answer, after all tries.
        TransientSourceError
            The answer says neither yes nor no, after all tries.
        """
        try:
            if self._store is not None:
                return _facts_of_store(self._store, path, self.url_of(path))
            if self._folder is not None:
                return _facts_of_file(self._folder / path, self.url_of(path))
            return self._request_facts(path)
        except FileNotFoundError:
            return None

    def noticed(self, answer: Answer) -> None:
        """Inspect the answer to a request for metadata; a hook for subclasses."""

    def _request_facts(self, path: str) -> FileFacts:
        """Request the metadata of a file from a web server."""
        address = self._address.joined(path)
        method = "HEAD"
        with announced(self.url_of(path), self.tries) as attempted:
            for attempt in self._attempts():
                with attempt, self._failures(path, "gave no answer", attempted):
                    with self._client.ask(method, address, AS_IT_IS) as answer:
                        status = answer.status
                    if method == "HEAD" and status in NO_HEAD:
                        method = "GET"  # the body is left unread
                        with self._client.ask(method, address, AS_IT_IS) as answer:
                            pass
                    self.noticed(answer)
                    self._check_status(answer, path, OK)
                    tag = answer.header("ETag")
                    return FileFacts(tag, date_of(answer.header("Last-Modified")))
        raise AssertionError  # the last attempt returns or raises

    def _attempts(self) -> Iterable[Attempt]:
        """Iterate over the tries of a request, with waits between them."""
        import_extra("stamina", "fetch")
        import stamina

        return stamina.retry_context(
            on=(NoAnswerError, _RetryableError),
            attempts=self.tries,
            timeout=None,
            wait_initial=clock.real_seconds(self.first_wait_s),
            wait_max=clock.real_seconds(LONGEST_WAIT_S),
            wait_jitter=clock.real_seconds(self.first_wait_s),
        )

    def _check_status(self, answer: Answer, path: str, *expected: int) -> None:
        """Raise for an answer with an unexpected status.

        Raises
        ------
        FileNotFoundError
            The server has no such file.
        TransientSourceError
            The status is another one than expected.
        """
        status, url = answer.status, self.url_of(path)
        if status in expected:
            return
        if status == MISSING:
            raise FileNotFoundError(f"there is no file `{url}`")
        is_later = status >= SERVER_FAULT or status in LATER
        kind = _RetryableError if is_later else TransientSourceError
        hint = "nothing is known about the file; try again later"
        raise kind(
            with_hint(f"`{url}` could not be fetched: the answer has status `{status}`", hint),
            url=url,
        )

    @contextmanager
    def _failures(self, path: str, what: str, attempted: Attempted) -> Iterator[None]:
        """Convert a failed request to `NoAnswerError`."""
        url = self.url_of(path)
        try:
            yield
        except RequestFailedError as error:
            attempted.failed(str(error))
            hint = f"{error.hint or 'try again later'}; nothing is known about the file"
            # Without the frames of the libraries, which say nothing more.
            raise NoAnswerError(with_hint(f"`{url}` {what} ({error})", hint), url=url) from None
        except _RetryableError as error:
            attempted.failed(str(error).partition(": ")[2].partition("\n")[0])
            raise

    @cached_property
    def _client(self) -> HttpClient:
        return HttpClient()

    @cached_property
    def _folder(self) -> Path | None:
        """The folder of a `file://` address."""
        parts = urlsplit(self._address.full)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None

    def _check_address(self) -> None:
        """Raise for an address that cannot have files."""
        hint = "write https://host, http://host:port or file:///folder"
        fault = fault_of(self._address)
        if fault is not None:
            raise SettingError(with_hint(f"the address `{self.url}` {fault}", hint))
        parts = urlsplit(self._address.full)
        if parts.scheme in ("http", "https") and parts.hostname:
            return
        if parts.scheme != "file":
            raise SettingError(with_hint(f"`{self.url}` is not the address of a source", hint))
        # Without this check, every day of a missing folder would look unpublished.
        if self._folder is not None and not self._folder.is_dir():
            raise SettingError(with_hint(f"there is no folder `{self.url}`", hint))


class _RetryableError(TransientSourceError):
    """Raised when an answer may be different after a retry."""


@dataclass(slots=True)
class _Partial:
    """The received part of a file, over all tries."""

    largest_bytes: int
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    #: The strong entity tag of these bytes; empty if the rest cannot be requested by itself.
    tag: str = ""

    def headers(self) -> dict[str, str]:
        """Return the headers that request the rest."""
        if not (self.tag and self.size):
            self._clear("")
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.tag}

    @property
    def statuses(self) -> tuple[int, ...]:
        """Statuses to expect in addition to that of a whole file."""
        return (PARTIAL, NO_SUCH_RANGE) if self.size else ()

    def finish(self, answer: Answer) -> Fetched:
        """Read the whole file, or the rest of it.

        Raises
        ------
        RequestFailedError
            The body was interrupted. The next try uses the received part.
        """
        if answer.status == NO_SUCH_RANGE:
            self._clear("")
            raise RequestFailedError("the file ends before the requested part")
        if answer.status == PARTIAL:
            begin = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/.*", answer.header("Content-Range"))
            if begin is None or int(begin[1]) != self.size or answer.header("ETag") != self.tag:
                self._clear("")
                raise RequestFailedError("the answer is another part of the file than requested")
        else:
            tag = answer.header("ETag")
            self._clear("" if answer.is_encoded or not tag.startswith('"') else tag)
        for piece in answer.pieces(self.largest_bytes - self.size):
            self.pieces.append(piece)
            self.size += len(piece)
        changed = date_of(answer.header("Last-Modified"))
        return Fetched(
            b"".join(self.pieces),
            answer.header("ETag"),
            "" if changed is None else changed.isoformat(),
        )

    def _clear(self, tag: str) -> None:
        self.pieces, self.size, self.tag = [], 0, tag


def _from_folder(path: Path, url: str) -> Fetched:
    """Read a file from a folder."""
    with _reading(url):
        content = path.read_bytes()
    facts = _facts_of_file(path, url)
    changed = "" if facts.last_modified is None else facts.last_modified.isoformat()
    return Fetched(content, facts.etag, changed)


def _facts_of_file(path: Path, url: str) -> FileFacts:
    with _reading(url):
        if path.is_dir():
            raise FileNotFoundError
        found = path.stat()
    tag = f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"
    return FileFacts(tag, datetime.fromtimestamp(found.st_mtime, UTC))


def _from_store(store: ObjectStore, path: str, url: str) -> Fetched:
    """Read a file from a store of obstore."""
    import obstore

    with _reading(url):
        result = obstore.get(store, path)
        content = result.bytes().to_bytes()
    changed = result.meta["last_modified"].isoformat()
    return Fetched(content, result.meta["e_tag"] or "", changed)


def _facts_of_store(store: ObjectStore, path: str, url: str) -> FileFacts:
    import obstore

    with _reading(url):
        meta = obstore.head(store, path)
    return FileFacts(meta["e_tag"] or "", meta["last_modified"])


@contextmanager
def _reading(url: str) -> Iterator[None]:
    """Convert an error of a file system or a store to `TransientSourceError`."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file `{url}`") from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - raised again without its cause, which may hold secrets
        text = scrubbed(str(error)).partition("\n")[0].strip()
        raise TransientSourceError(
            with_hint(
                f"`{url}` could not be fetched: {text}",
                "nothing is known about the file; try again later",
            ),
            url=url,
        ) from None
