"""Files that a passphrase opens: the scrypt stanza of age v1, which stands alone in its header.

It makes and reads what `age -p` does; it asks nobody for a passphrase, and judges none.
Source: https://age-encryption.org/v1, section "scrypt recipient stanza"; RFC 7914.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from crypto import labels
from crypto.envelope import open_file, seal_file
from crypto.errors import HeaderError, IdentityError
from crypto.geometry import FILE_KEY_SIZE, TAG_SIZE
from crypto.header import Stanza
from crypto.primitives import (
    AEAD_NONCE_SIZE,
    KEY_SIZE,
    Buffer,
    Random,
    aead_open,
    aead_seal,
    decode_base64,
    draw,
    encode_base64,
)
from crypto.secret import Secret

WORK_FACTOR: Final = 18
"""Of what we make: a second of a processor and 256 MiB, as age takes."""
WORK_FACTOR_MAX: Final = 22
"""Of what we open: 4 GiB. Who wrote the file would else decide how much of both it takes."""

_CLASS: Final = "passphrase"
_SALT_SIZE: Final = 16
_BODY_SIZE: Final = FILE_KEY_SIZE + TAG_SIZE
_BLOCK_SIZE: Final = 8
_FACTOR: Final = re.compile(r"[1-9][0-9]*", re.ASCII)
# The wrap key is used once, as it hangs on a fresh salt: a fixed nonce is safe.
_WRAP_NONCE: Final = bytes(AEAD_NONCE_SIZE)


def seal_with_passphrase(
    plaintext: Buffer,
    passphrase: Secret,
    *,
    work_factor: int = WORK_FACTOR,
    random: Random = os.urandom,
) -> bytes:
    """Return an age file that the passphrase opens, with any implementation.

    `work_factor` is the binary logarithm of what scrypt costs.

    Raises IdentityError for an empty passphrase or a factor that we would not open.
    """
    return seal_file(plaintext, [_Passphrase(passphrase, work_factor)], random=random)


def open_with_passphrase(
    data: Buffer, passphrase: Secret, *, work_factor_max: int = WORK_FACTOR_MAX
) -> bytes:
    """Return the plaintext of a whole age file that was sealed with a passphrase.

    Raises NoIdentityMatch for a wrong passphrase, HeaderError (also for a work factor beyond
    `work_factor_max`, before anything is computed), HeaderMACError, PayloadError, IdentityError
    for an empty passphrase.
    """
    return open_file(data, [_Passphrase(passphrase, work_factor_max)])


@dataclass(frozen=True, slots=True)
class _Passphrase:
    """Both halves of a party that a passphrase is all there is of."""

    passphrase: Secret
    work_factor: int = field(repr=False)
    """What is made, and the most that is opened."""

    def __post_init__(self) -> None:
        if not len(self.passphrase):
            raise IdentityError("the passphrase is empty")
        if not 1 <= self.work_factor <= WORK_FACTOR_MAX:
            msg = f"a work factor is 1 to {WORK_FACTOR_MAX}, not {self.work_factor}"
            raise IdentityError(msg)

    @property
    def key_class(self) -> str:
        return _CLASS

    def wrap(self, file_key: Secret, *, random: Random = os.urandom) -> Stanza:
        salt = draw(random, _SALT_SIZE)
        key = self._key(salt, self.work_factor)
        body = aead_seal(key, _WRAP_NONCE, file_key.expose())
        return Stanza(labels.STANZA_SCRYPT, (encode_base64(salt), str(self.work_factor)), body)

    def check_stanza(self, stanza: Stanza) -> None:
        if stanza.type != labels.STANZA_SCRYPT:
            raise HeaderError("expected a scrypt stanza")
        _parse(stanza, WORK_FACTOR_MAX)

    def unwrap(self, stanza: Stanza) -> Secret | None:
        if stanza.type != labels.STANZA_SCRYPT:
            return None
        salt, work_factor = _parse(stanza, self.work_factor)
        return aead_open(self._key(salt, work_factor), _WRAP_NONCE, stanza.body)

    def recipient(self) -> _Passphrase:
        return self

    def to_text(self) -> str:
        raise IdentityError("a passphrase has no text of its own")

    def _key(self, salt: bytes, work_factor: int) -> Secret:
        kdf = Scrypt(
            salt=labels.SCRYPT_WRAP + salt,
            length=KEY_SIZE,
            n=1 << work_factor,
            r=_BLOCK_SIZE,
            p=1,
        )
        return Secret(kdf.derive(self.passphrase.expose()))


def _parse(stanza: Stanza, work_factor_max: int) -> tuple[bytes, int]:
    """Return salt and work factor. Raises HeaderError."""
    if len(stanza.args) != 2:  # noqa: PLR2004 - salt and factor
        raise HeaderError(f"a scrypt stanza has two arguments, not {len(stanza.args)}")
    salt = decode_base64(stanza.args[0])
    if salt is None or len(salt) != _SALT_SIZE:
        raise HeaderError(f"a scrypt stanza's salt is {_SALT_SIZE} bytes of canonical base64")
    # Two digits are more than enough, and a number of any length costs time to read.
    factor = stanza.args[1]
    if not _FACTOR.fullmatch(factor):
        raise HeaderError("a scrypt stanza's work factor is a decimal number without leading zeros")
    if len(factor) > 2 or int(factor) > work_factor_max:  # noqa: PLR2004 - digits
        raise HeaderError(f"the work factor is beyond {work_factor_max}; it is not computed")
    # Checked before decryption, so that no file key of another length is ever tried (age v1).
    if len(stanza.body) != _BODY_SIZE:
        raise HeaderError(f"a scrypt stanza's body is {_BODY_SIZE} bytes, not {len(stanza.body)}")
    return salt, int(factor)
