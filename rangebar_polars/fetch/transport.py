"""Whole files from a web server or a local folder.

A request without an answer, or with one of the kind "later" (5xx, 408, 425, 429), is made again, as
is one whose body breaks off. A server that supports ranges then sends only the rest of the file.
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

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from obstore.store import ObjectStore
    from stamina import Attempt

    from rangebar_polars.fetch._http import Answer

__all__ = ["Fetched", "FileFacts", "Transport"]

LONGEST_WAIT_S = 30.0
#: A month of the busiest symbol has an eighth of this.
LARGEST_FILE_BYTES = 8 << 30
UNCACHED = {"Cache-Control": "no-cache", "Pragma": "no-cache"}
#: A zip file gains nothing from another compression.
AS_IT_IS = {"Accept-Encoding": "identity"}

OK, PARTIAL, MISSING, NO_SUCH_RANGE = 200, 206, 404, 416
NO_HEAD = frozenset({405, 501})
LATER = frozenset({408, 425, 429})
SERVER_FAULT = 500


@dataclass(frozen=True, slots=True)
class Fetched:
    """A file as it was fetched, and what the server says about it."""

    content: bytes
    #: Empty where the server gives none.
    etag: str = ""
    #: ISO 8601, UTC; empty where the server gives none.
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a server says about a file without sending it."""

    #: Empty where the server gives none.
    etag: str = ""
    #: None where the server gives none.
    last_modified: datetime | None = None


class Transport:
    """Files below one address: `http://`, `https://` or `file://`.

    Parameters
    ----------
    url
        The address that paths are relative to; with a user and a password, or with a query that
        each request gets, where the server asks for them. They are never shown or recorded.
    store
        A store of the library obstore, which is used instead of the address.
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
        self._address = Address(url.rstrip("/"))
        self.tries = given.http_tries
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
        """Address of a file without its secrets."""
        return str(self._address.joined(path))

    def get(self, path: str, *, fresh: bool = False, largest_bytes: int | None = None) -> Fetched:
        """Fetch the file at a path; with `fresh`, past all caches on the way.

        A file from a web server of more than `largest_bytes`, 8 GiB by default, is not fetched.

        Raises
        ------
        FileNotFoundError
            The server says that there is no such file.
        TransientSourceError
            No answer, a refusal, or a body that broke off, after all tries.
        """
        if self._store is not None:
            return _from_store(self._store, path, self.url_of(path))
        if self._folder is not None:
            return _from_folder(self._folder / path, self.url_of(path))
        address = self._address.joined(path)
        if fresh:
            address = address.with_query(f"fresh={secrets.token_hex(4)}")
        partial = _Partial(largest_bytes or LARGEST_FILE_BYTES)
        for attempt in self._attempts():
            with attempt, self._failures(path, f"`{self.url_of(path)}` could not be fetched"):
                headers = AS_IT_IS | (UNCACHED if fresh else {}) | partial.headers()
                with self._client.ask("GET", address, headers) as answer:
                    self._judge(answer, path, OK, *partial.statuses)
                    return partial.finish(answer)
        raise AssertionError  # stamina gives a result or raises

    def exists(self, path: str) -> bool:
        """Whether there is a file at a path.

        Raises
        ------
        TransientSourceError
            No answer, or one that says neither yes nor no, after all tries.
        """
        return self.facts(path) is not None

    def facts(self, path: str) -> FileFacts | None:
        """What the server says about a file; None if there is none.

        Raises
        ------
        NoAnswerError
            No connection, or one that ended before an answer, after all tries.
        TransientSourceError
            An answer that says neither yes nor no, after all tries.
        """
        try:
            if self._store is not None:
                return _facts_of_store(self._store, path, self.url_of(path))
            if self._folder is not None:
                return _facts_of_file(self._folder / path, self.url_of(path))
            return self._asked(path)
        except FileNotFoundError:
            return None

    def noticed(self, answer: Answer) -> None:
        """Take note of an answer to a question about a file."""

    def _asked(self, path: str) -> FileFacts:
        """What the web server says about a file."""
        address = self._address.joined(path)
        method = "HEAD"
        for attempt in self._attempts():
            with attempt, self._failures(path, f"`{self.url_of(path)}` gave no answer"):
                with self._client.ask(method, address, AS_IT_IS) as answer:
                    status = answer.status
                if method == "HEAD" and status in NO_HEAD:
                    method = "GET"  # the body is left unread
                    with self._client.ask(method, address, AS_IT_IS) as answer:
                        pass
                self.noticed(answer)
                self._judge(answer, path, OK)
                return FileFacts(answer.header("ETag"), date_of(answer.header("Last-Modified")))
        raise AssertionError  # stamina gives a result or raises

    def _attempts(self) -> Iterable[Attempt]:
        """Tries of a request, with waits between."""
        import_extra("stamina", "fetch")
        import stamina

        return stamina.retry_context(
            on=(NoAnswerError, _MayGetBetterError),
            attempts=self.tries,
            timeout=None,
            wait_initial=self.first_wait_s,
            wait_max=LONGEST_WAIT_S,
            wait_jitter=self.first_wait_s,
        )

    def _judge(self, answer: Answer, path: str, *wanted: int) -> None:
        """Raise an error for an answer that is not the file.

        Raises
        ------
        FileNotFoundError
            The server says that there is no such file.
        TransientSourceError
            Any other status than those wanted.
        """
        status, url = answer.status, self.url_of(path)
        if status in wanted:
            return
        if status == MISSING:
            raise FileNotFoundError(f"there is no file `{url}`")
        is_later = status >= SERVER_FAULT or status in LATER
        kind = _MayGetBetterError if is_later else TransientSourceError
        hint = "nothing is known about the file; try again later"
        raise kind(
            with_hint(f"`{url}` could not be fetched: the answer has status `{status}`", hint),
            url=url,
        )

    @contextmanager
    def _failures(self, path: str, sentence: str) -> Iterator[None]:
        """Turn a failed request into the error of a source that gave no answer."""
        try:
            yield
        except RequestFailedError as error:
            hint = "nothing is known about the file; is the network up?"
            raise NoAnswerError(
                with_hint(f"{sentence} ({error})", hint), url=self.url_of(path)
            ) from error

    @cached_property
    def _client(self) -> HttpClient:
        return HttpClient()

    @cached_property
    def _folder(self) -> Path | None:
        """The folder of a `file://` address."""
        parts = urlsplit(self._address.full)
        return Path(url2pathname(parts.path)) if parts.scheme == "file" else None

    def _check_address(self) -> None:
        """Refuse an address that no file can ever come from."""
        hint = "write https://host, http://host:port or file:///folder"
        fault = fault_of(self._address)
        if fault is not None:
            raise SettingError(with_hint(f"the address `{self.url}` {fault}", hint))
        parts = urlsplit(self._address.full)
        if parts.scheme in ("http", "https") and parts.hostname:
            return
        if parts.scheme != "file":
            raise SettingError(with_hint(f"`{self.url}` is no address of a source", hint))
        # Without its folder, every day would look as if it had never been published.
        if self._folder is not None and not self._folder.is_dir():
            raise SettingError(with_hint(f"there is no folder `{self.url}`", hint))


class _MayGetBetterError(TransientSourceError):
    """An answer that another try may better."""


@dataclass(slots=True)
class _Partial:
    """What has come of a file so far, over all tries."""

    largest_bytes: int
    pieces: list[bytes] = field(default_factory=list)
    size: int = 0
    #: The strong entity tag of these bytes; empty where the rest cannot be asked for by itself.
    tag: str = ""

    def headers(self) -> dict[str, str]:
        """Headers that ask for the rest."""
        if not (self.tag and self.size):
            self._clear("")
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.tag}

    @property
    def statuses(self) -> tuple[int, ...]:
        """Statuses of answers to a question for the rest, beside that of a whole file."""
        return (PARTIAL, NO_SUCH_RANGE) if self.size else ()

    def finish(self, answer: Answer) -> Fetched:
        """Read the whole file, or the rest of it.

        Raises
        ------
        RequestFailedError
            The body broke off; what has come is used by the next try.
        """
        if answer.status == NO_SUCH_RANGE:
            self._clear("")
            raise RequestFailedError("the file ends before the part that was asked for")
        if answer.status == PARTIAL:
            begin = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]+/.*", answer.header("Content-Range"))
            if begin is None or int(begin[1]) != self.size or answer.header("ETag") != self.tag:
                self._clear("")
                raise RequestFailedError("another part of the file came than was asked for")
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
    """Read a file of a folder."""
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
    """Read a file of a store of obstore."""
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
    """Turn an error of a file system or a store into those of a source."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no file `{url}`") from None
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - raised again without its cause, which may hold secrets
        words = scrubbed(str(error)).partition("\n")[0].strip()
        raise TransientSourceError(
            with_hint(
                f"`{url}` could not be fetched: {words}",
                "nothing is known about the file; try again later",
            ),
            url=url,
        ) from None
