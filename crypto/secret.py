"""A wrapper that keeps key bytes out of logs, errors, pickles and comparisons that leak time.

It is no vault: its own copy is overwritten when it is dropped, but what `expose` and the libraries
hand out are immutable bytes, which Python cannot wipe. It makes every other way out a loud one.
"""

from __future__ import annotations

import hmac
from typing import ClassVar, Final, NoReturn, final

_REDACTED: Final = "Secret(redacted)"


def wipe(buffer: bytearray) -> None:
    """Overwrite all bytes with zeros, in place."""
    buffer[:] = bytes(len(buffer))


@final
class Secret:
    """Key bytes; `expose()` is the only way to them, so that every use can be searched for."""

    __slots__ = ("_value",)

    # A hash would leak through timing and tempt to use keys as names.
    __hash__: ClassVar[None]  # type: ignore[assignment]

    def __init__(self, value: bytes) -> None:
        """Take a private copy of the bytes."""
        self._value = bytearray(memoryview(value))

    def __del__(self) -> None:
        """Overwrite the private copy."""
        try:
            value = self._value
        except AttributeError:  # the bytes were refused
            return
        # Not by `wipe`: a Secret that lives as long as the program may outlive the module's names.
        value[:] = bytes(len(value))

    def expose(self) -> bytes:
        """Return the bytes; the caller must not store, print or log them."""
        return bytes(self._value)

    def __len__(self) -> int:
        """Return the size in bytes, which is no secret."""
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time, and only with another Secret."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value, other._value)

    def __repr__(self) -> str:
        """Show that there is a secret, and nothing of it."""
        return _REDACTED

    def __format__(self, spec: str) -> str:
        """Show no more in an f-string, whatever the format asked for."""
        return _REDACTED

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse pickle and copy: both would carry the bytes somewhere unseen."""
        msg = "a Secret cannot be pickled or copied; pass the object itself, or expose() it"
        raise TypeError(msg)
