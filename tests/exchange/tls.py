"""Certificates of the box, made at run time by an authority that nobody else knows."""

from __future__ import annotations

import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

__all__ = ["Certificates"]

HOSTS = ("127.0.0.1", "localhost")


class Certificates:
    """An authority, its file for clients (`SSL_CERT_FILE`), and the context of a server."""

    def __init__(self, *, expired: bool = False) -> None:
        # Loaded here: few tests need it, and it takes a while.
        import trustme

        self._folder = tempfile.TemporaryDirectory(prefix="exchange-ca-")
        authority = trustme.CA()
        self.path = Path(self._folder.name) / "ca.pem"
        authority.cert_pem.write_to_path(str(self.path))
        now = datetime.now(UTC)
        past = {"not_before": now - timedelta(days=30), "not_after": now - timedelta(days=1)}
        certificate = authority.issue_cert(*HOSTS, **(past if expired else {}))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(self.context)

    def close(self) -> None:
        """Remove the file of the authority."""
        self._folder.cleanup()
