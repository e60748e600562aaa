"""Identifiers: how they are minted and which ones are accepted. Pure; randomness is an argument.

Object and payload ids are 160 random bits in lower-case base32 (32 characters, no padding).
Session and task ids come from outside (they are written on chains) and match
``[A-Za-z0-9_.]{1,64}``; an id of dots alone is refused, since ``.`` and ``..`` mean something in
every path that such an id may end up in.
"""

import base64
import os
import re
from collections.abc import Callable

from .errors import InvalidField

RANDOM_ID_BYTES = 20
SCOPE_ID_LENGTH_MAX = 64

_SCOPE_ID = re.compile(rf"[A-Za-z0-9_.]{{1,{SCOPE_ID_LENGTH_MAX}}}", re.ASCII)


def new_random_id(random: Callable[[int], bytes] = os.urandom) -> str:
    """Return a fresh object, payload, instance or deployment id: 160 bits, 32 characters."""
    return base64.b32encode(random(RANDOM_ID_BYTES)).decode("ascii").lower()


def check_scope_id(text: str, field: str) -> str:
    """Return ``text`` when it is a well-formed session or task id.

    Raises:
        InvalidField: it is not; ``field`` names where it stood.

    """
    if _SCOPE_ID.fullmatch(text) is None or not text.strip("."):
        raise InvalidField(
            f"{field} must be 1 to {SCOPE_ID_LENGTH_MAX} characters of A-Z, a-z, 0-9, '_' and '.',"
            f" and not dots alone",
            field=field,
        )
    return text
