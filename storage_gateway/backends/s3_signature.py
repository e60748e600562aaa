"""Signatures for requests to S3: AWS Signature Version 4, in headers. Pure: time is an argument.

Source: docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

from crypto import Secret

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""In place of the body's digest, where TLS protects the body on its way."""

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Who signs. Only the access key's name may be shown."""

    access_key: str
    secret_key: Secret
    session_token: Secret | None = None


def quoted(text: str, *, safe: str = "") -> str:
    """Percent-encode as S3 wants it signed: all but ``A-Z a-z 0-9 - . _ ~`` and ``safe``."""
    return quote(text, safe=safe)


def query_string(query: Mapping[str, str]) -> str:
    """Return a query in the order and encoding that is signed, and so sent."""
    return "&".join(f"{name}={value}" for name, value in sorted(_quoted_items(query)))


def _quoted_items(query: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(quoted(name), quoted(value)) for name, value in query.items()]


class Signer:
    """Signs requests for one region with one set of credentials."""

    def __init__(self, credentials: Credentials, region: str) -> None:
        """Nothing is derived before the first request."""
        self._credentials = credentials
        self._region = region
        self._day = ""
        self._day_key = Secret(bytes(32))

    def headers(
        self, method: str, *, host: str, path: str, query: str, digest: str, now: datetime
    ) -> dict[str, str]:
        """Return what a request must carry; ``host`` is part of it.

        Args:
            method: of HTTP.
            host: with the port, unless it is the scheme's own.
            path: percent-encoded, beginning with ``/``.
            query: as `query_string` makes it.
            digest: SHA-256 of the body in hexadecimal, or `UNSIGNED_PAYLOAD`.
            now: with a time zone.

        """
        moment = now.strftime("%Y%m%dT%H%M%SZ")
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": moment}
        if self._credentials.session_token is not None:
            headers["x-amz-security-token"] = self._credentials.session_token.expose().decode()
        names = ";".join(headers)
        lines = [f"{name}:{value}" for name, value in headers.items()]
        canonical = "\n".join([method, path, query, *lines, "", names, digest])
        scope = f"{moment[:8]}/{self._region}/s3/aws4_request"
        text = f"{_ALGORITHM}\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        signature = _hmac(self._key(moment[:8]).expose(), text).hex()
        headers["authorization"] = (
            f"{_ALGORITHM} Credential={self._credentials.access_key}/{scope},"
            f"SignedHeaders={names},Signature={signature}"
        )
        return headers

    def _key(self, day: str) -> Secret:
        if day != self._day:
            key = b"AWS4" + self._credentials.secret_key.expose()
            for text in (day, self._region, "s3", "aws4_request"):
                key = _hmac(key, text)
            self._day, self._day_key = day, Secret(key)
        return self._day_key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), "sha256")
