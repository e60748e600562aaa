"""Identities that come of one seed, which is kept elsewhere, and of salts, which are kept here.

Neither is of any use without the other. A version is erased by erasing its salt. The derivation is
ours: no other tool knows it.
"""

import base64
import binascii
import secrets
from datetime import UTC, datetime
from pathlib import Path

from crypto import SALT_SIZE, CryptoError, Identity, Secret, seeded_identity

from .config import ConfigError
from .key_provider import SealedText, of_class, only_one

FIRST_LINES = (
    "# Each line is a version of the router's key: class, salt, date, recipient. The key comes of"
    " the salt and of\n# a seed that is kept elsewhere. Who removes a line has erased that key.\n"
)
FIELDS = 4


class SeedKeys:
    """The versions that the salts in a file make of a seed."""

    name = "seed"

    def __init__(self, path: Path, seed: Secret) -> None:
        """Nothing is touched yet."""
        self.place = path.name
        self._path = path
        self._seed = seed
        self._text = SealedText(path)

    async def close(self) -> None:
        """See `KeyProvider.close`."""
        await self._text.close()

    async def load(self) -> tuple[Identity, ...]:
        """See `KeyProvider.load`."""
        text = await self._text.read()
        return () if text is None else tuple(self._parse(text))

    async def make(self, key_class: str, *, first: bool = False) -> Identity:
        """See `KeyProvider.make`."""
        salt = secrets.token_bytes(SALT_SIZE)
        made = seeded_identity(self._seed, salt, key_class)
        created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        code = base64.b64encode(salt).decode()
        line = f"{key_class} {code} {created} {made.recipient()}\n"

        def added(text: str | None) -> str | None:
            held = () if text is None else self._parse(text)
            if first and of_class(held, key_class):
                return None
            return FIRST_LINES + line if text is None else f"{text.rstrip()}\n{line}"

        held = self._parse(await self._text.change(added))
        return made if made in held else of_class(held, key_class)[0]

    async def drop(self, recipient: str) -> None:
        """See `KeyProvider.drop`."""

        def without(text: str | None) -> str | None:
            if text is None or recipient not in [str(i.recipient()) for i in self._parse(text)]:
                return None
            lines = text.splitlines(keepends=True)
            kept = "".join(line for line in lines if line.split()[-1:] != [recipient])
            if not _entries(kept):
                raise only_one(self._path)
            return kept

        await self._text.change(without)

    def _parse(self, text: str) -> list[Identity]:
        entries = _entries(text)
        if not entries:
            raise ConfigError(f"{self._path} holds no salt: restore it from a backup")
        return [self._identity(number, entry) for number, entry in entries]

    def _identity(self, number: int, entry: list[str]) -> Identity:
        try:
            key_class, code, _created, recipient = entry
            salt = base64.b64decode(code, validate=True)
            identity = seeded_identity(self._seed, salt, key_class)
        except (ValueError, binascii.Error, CryptoError):
            raise ConfigError(
                f"{self._path}: line {number} is not class, salt, date and recipient"
            ) from None
        if str(identity.recipient()) != recipient:
            raise ConfigError(
                f"{self._path}: the seed is not the one that line {number} was made with: give that"
                " one back, in key_seed_file or ENCRYPTION_SEED"
            )
        return identity


def _entries(text: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are no comments, each in its words, with their numbers."""
    lines = enumerate(text.splitlines(), start=1)
    return [(number, line.split()) for number, line in lines if line.split("#")[0].strip()]
