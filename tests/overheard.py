"""All that gateways and commands say while tests run, and which secrets are in it: none may be.

In this process log records of any level are kept; of gateways in processes of their own what they
write to their log, of commands what they write to stderr (on stdout some hand out a secret on
purpose).
Tokens and identities are known by their shape, whoever made them; keys, of files too, by `Secret`,
which every one of this process is put into; and bodies are told of by those who send them.
"""

import base64
import binascii
import json
import logging
import re
from contextlib import suppress

from crypto import Secret
from storage_gateway.logs import JSONFormatter

LOGGERS = ("storage_gateway", "aiohttp", "asyncio")
KEY_SIZE_MIN = 16
BODY_SIZE_MIN = 24
"""Of what is not key, so many bytes are looked for."""
DISTINCT_MIN = 8
"""Bytes that a secret has of different values: what has fewer is there by chance."""
KEYS_MAX = 100_000
"""The last ones of so many are looked for."""
_SHAPES = {
    "a token": re.compile(rb"sg_[a-z]+_[a-z2-7]{40}"),
    "an identity": re.compile(rb"AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{20}", re.IGNORECASE),
}
_WORD = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
_HEX = re.compile(rb"[0-9A-Fa-f]{24}")
_NAME = re.compile(rb"[a-z2-7]+")
"""Lower-case base32, as our names are; keys are never written so."""
_BEGINNING = 12
"""Bytes of a key that are compared: 16 characters of base64, 24 of hex."""


class Overheard(logging.Handler):
    """What was said since the last look, and the secrets that were made."""

    def __init__(self) -> None:
        """Nothing is heard before `listen`."""
        super().__init__()
        self.setFormatter(JSONFormatter())
        self._said: list[bytes] = []
        self._keys: dict[bytes, None] = {}
        self._texts: dict[bytes, str] = {}

    def listen(self) -> None:
        """Hear all that is logged in this process, also what is not shown, from here on."""
        for name in LOGGERS:
            logger = logging.getLogger(name)
            if self not in logger.handlers:
                logger.addHandler(self)
        logging.getLogger(LOGGERS[0]).setLevel(logging.DEBUG)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a record as the line that it would be."""
        self.hear(self.format(record).encode())

    def hear(self, text: bytes) -> None:
        """Keep what was said otherwise."""
        self._said.append(text)

    def key(self, value: bytes) -> None:
        """Note a key; too short ones, and those of a few bytes that repeat, are none."""
        if len(value) < KEY_SIZE_MIN:
            return
        self._keys[value[:_BEGINNING]] = None
        if len(self._keys) > KEYS_MAX:
            with suppress(KeyError, RuntimeError):  # another thread is at it as well
                del self._keys[next(iter(self._keys))]
        if value.isascii() and value.decode().isprintable():
            self.text("a secret text", value)

    def text(self, what: str, value: bytes) -> None:
        """Note what else is a secret, until the end of the test."""
        begin = value[:BODY_SIZE_MIN]
        if len(set(begin)) >= DISTINCT_MIN:
            shown = json.dumps(repr(begin)[2:-1])[1:-1].encode()
            for form in (begin, shown, base64.b64encode(begin)):
                self._texts[form] = what

    def take(self) -> list[str]:
        """Return which secrets were said, each with what stands before it; forget what was said."""
        said, self._said = b"\n".join(self._said), []
        texts, self._texts = self._texts, {}
        found = [
            _told(what, said, match.start())
            for what, shape in _SHAPES.items()
            for match in shape.finditer(said)
        ]
        for text, what in texts.items():
            at = said.find(text)
            if at >= 0:
                found.append(_told(what, said, at))
        found += [
            _told("a key", said, match.start())
            for match in _WORD.finditer(said)
            if not _NAME.fullmatch(match[0]) and self._is_key(match[0])
        ]
        return found

    def _is_key(self, word: bytes) -> bool:
        for at in range(len(word) - 15):
            for value in (_of_base64(word[at : at + 16]), _of_hex(word[at : at + 24])):
                if value in self._keys and len(set(value)) >= DISTINCT_MIN:
                    return True
        return False


overheard = Overheard()


def note_keys() -> None:
    """Have every key that is put into a `Secret` from here on noted. Once in a process."""
    take = Secret.__init__

    def noted(self: Secret, value: bytes) -> None:
        take(self, value)
        overheard.key(bytes(value))

    Secret.__init__ = noted  # type: ignore[method-assign]


def _of_base64(text: bytes) -> bytes:
    return base64.b64decode(text, b"-_") if b"-" in text or b"_" in text else _plain(text)


def _plain(text: bytes) -> bytes:
    with suppress(binascii.Error):
        return base64.b64decode(text)
    return b""


def _of_hex(text: bytes) -> bytes:
    if not _HEX.fullmatch(text):
        return b""
    return bytes.fromhex(text.decode())


def _told(what: str, said: bytes, at: int) -> str:
    line = said[said.rfind(b"\n", 0, at) + 1 : at]
    return f"{what}, after: {line[-300:].decode(errors='replace')}"
