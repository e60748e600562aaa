"""An identity file that OpenBao or Vault opens: wrapped by a key of its transit engine, which never
leaves the server. Source: openbao.org/api-docs/secret/transit

Each question has a deadline. What the server says is believed in its one form only, and never
shown: an error tells the status, no more.
"""

import asyncio
import base64
import binascii
import json
import ssl
from http import HTTPStatus
from pathlib import Path

import aiohttp

from .config import ConfigError
from .custody import read_secret
from .errors import KeyProviderUnavailable
from .key_settings import KeySettings

ANSWER_BYTES_MAX = 1 << 20
CIPHERTEXT = "vault:v"
"""What it begins with; OpenBao kept the word."""


class Transit:
    """Asks one key of one server."""

    name = "transit"

    def __init__(self, settings: KeySettings) -> None:
        """Nothing is asked or opened yet."""
        if settings.key_transit_url is None or settings.key_transit_token_file is None:
            raise ConfigError("key_transit_url and key_transit_token_file must be set")
        base = settings.key_transit_url.rstrip("/")
        self._url = f"{base}/v1/{settings.key_transit_mount}/{{}}/{settings.key_transit_key}"
        self._token_file: Path = settings.key_transit_token_file
        self._ca_file = settings.key_transit_ca_file
        self._timeout_s = settings.key_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def wrap(self, text: bytes) -> bytes:
        """See `Wrapping.wrap`."""
        plaintext = base64.b64encode(text).decode()
        answer = await self._ask("encrypt", {"plaintext": plaintext}, "ciphertext")
        if not answer.startswith(CIPHERTEXT) or not answer.isascii() or not answer.isprintable():
            raise _unusable()
        return answer.encode() + b"\n"

    async def unwrap(self, data: bytes) -> bytes:
        """See `Wrapping.unwrap`."""
        try:
            ciphertext = data.decode("ascii").strip()
        except UnicodeDecodeError:
            ciphertext = ""
        if not ciphertext.startswith(CIPHERTEXT):
            raise ConfigError("what key_provider transit is to open was not wrapped by it")
        answer = await self._ask("decrypt", {"ciphertext": ciphertext}, "plaintext")
        try:
            return base64.b64decode(answer, validate=True)
        except (ValueError, binascii.Error):
            raise _unusable() from None

    async def _ask(self, verb: str, question: dict[str, str], wanted: str) -> str:
        token = (await asyncio.to_thread(read_secret, self._token_file)).strip()
        if not token or not token.isascii() or not token.isprintable():
            raise ConfigError(f"{self._token_file} holds no token")
        session = await self._connected()
        try:
            async with session.post(
                self._url.format(verb),
                json=question,
                headers={"X-Vault-Token": token, "X-Vault-Request": "true"},
                allow_redirects=False,
            ) as answer:
                body = await _read(answer)
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            # Not its text: some name the address, and none says what to do.
            raise KeyProviderUnavailable(
                f"the key provider does not answer ({type(error).__name__})"
            ) from None
        if status != HTTPStatus.OK:
            raise KeyProviderUnavailable(f"the key provider answered {status}")
        try:
            said = json.loads(body)["data"][wanted]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise _unusable() from None
        if not isinstance(said, str):
            raise _unusable()
        return said

    async def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = None if self._ca_file is None else await asyncio.to_thread(_trust, self._ca_file)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=4, ssl=tls or True),
                timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                headers={"User-Agent": "storage-gateway", "Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        return self._session


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    body = b""
    async for piece in answer.content.iter_any():
        body += piece
        if len(body) > ANSWER_BYTES_MAX:
            raise ValueError("too long")
    return body


def _trust(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:
        raise ConfigError(f"key_transit_ca_file {file}: {error.strerror or 'unusable'}") from None


def _unusable() -> KeyProviderUnavailable:
    return KeyProviderUnavailable("the key provider answered what cannot be used")
