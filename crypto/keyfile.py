"""Keys as text: any class of recipient or identity, and identity files as age-keygen writes them.

It parses and formats text that others read and write; it opens no files and reads no clock.
"""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from typing import Final

from crypto.errors import IdentityError
from crypto.hybrid import HybridIdentity, HybridRecipient
from crypto.keys import Identity, Recipient
from crypto.x25519 import X25519Identity, X25519Recipient

_HYBRID_RECIPIENT: Final = "age1pq1"
_HYBRID_IDENTITY: Final = "age-secret-key-pq-1"


# Every upload parses its parties' texts anew; checking a text takes longer than a wrap. Public keys
# only: what is refused, such as an identity given by mistake, is not kept.
@lru_cache(maxsize=512)
def parse_recipient(text: str) -> Recipient:
    """Return the recipient that `text` names, `age1…` or `age1pq1…`. Raises RecipientError."""
    hybrid = text.lower().startswith(_HYBRID_RECIPIENT)
    return HybridRecipient.parse(text) if hybrid else X25519Recipient.parse(text)


def parse_identities(text: str) -> list[Identity]:
    """Return the identities of an identity file, one a line; `#` comments and empty lines pass.

    Raises IdentityError with the number of the faulty line, never with the line itself, and when
    there is no identity at all.
    """
    identities: list[Identity] = []
    for number, line in enumerate(text.split("\n"), start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            identities.append(_parse_identity(entry, number))
    if not identities:
        raise IdentityError("no identity found; expected a line AGE-SECRET-KEY-1… or -PQ-1…")
    return identities


def format_identity_file(identity: Identity, created: datetime) -> str:
    """Return the identity file that age-keygen (with -pq for a hybrid identity) would write.

    `created` needs a time zone, and is written to the second.

    Raises IdentityError when `created` has no time zone.
    """
    if created.utcoffset() is None:
        raise IdentityError("the time of creation needs a time zone")
    stamp = created.isoformat(timespec="seconds").replace("+00:00", "Z")
    return f"# created: {stamp}\n# public key: {identity.recipient()}\n{identity.to_text()}\n"


def _parse_identity(text: str, number: int) -> Identity:
    hybrid = text.lower().startswith(_HYBRID_IDENTITY)
    try:
        return HybridIdentity.parse(text) if hybrid else X25519Identity.parse(text)
    except IdentityError as error:
        raise IdentityError(f"line {number}: {error}") from None
