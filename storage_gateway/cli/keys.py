"""Recipients and identities as the offline commands take them: as arguments and in files.

An identity is never taken from an argument, where other users of the machine could see it, and no
message shows any part of a key or of a file that should hold one.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from crypto import Identity, IdentityError, Recipient, RecipientError, parse_identities
from crypto import parse_recipient as parse

from .exits import UsageFault, about
from .output import input_file
from .streams import name_of

KEY_FILE_SIZE_MAX = 1 << 20


def read_identities(path: Path) -> list[Identity]:
    """Return the identities in a file, ``-`` for stdin.

    Raises:
        CryptoError, OSError: it cannot be read.

    """
    text = _text_of(path)
    if text is None:
        raise IdentityError("not an identity file: not text, or longer than 1 MiB")
    return parse_identities(text)


def all_identities(paths: Sequence[Path]) -> list[Identity]:
    """Return the identities of all files, in their order. Raises Failure."""
    identities: list[Identity] = []
    for path in paths:
        with about(name_of(path)):
            identities += read_identities(path)
    return identities


def all_recipients(texts: Sequence[str], files: Sequence[Path] = ()) -> list[Recipient]:
    """Return the recipients of the arguments, then those in files. Raises Failure, UsageFault."""
    recipients: list[Recipient] = []
    for number, text in enumerate(texts, start=1):
        with about(f"recipient {number} of {len(texts)}"):
            recipients.append(parse(text))
    for path in files:
        recipients += _recipients_in(path)
    if not recipients:
        raise UsageFault("no recipient; nobody could open the file: give -r or -R")
    return recipients


def _recipients_in(path: Path) -> Iterator[Recipient]:
    with about(name_of(path)):
        text = _text_of(path)
        if text is None:
            raise RecipientError("not a list of recipients: not text, or longer than 1 MiB")
    for number, line in enumerate(text.splitlines(), start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            with about(f"{name_of(path)}, line {number}"):
                yield parse(entry)


def _text_of(path: Path) -> str | None:
    """Return a small text file's text, None for anything else: an error would show bytes of it."""
    data = bytearray()
    with input_file(str(path)) as file:
        while len(data) <= KEY_FILE_SIZE_MAX and (piece := file.read(KEY_FILE_SIZE_MAX + 1)):
            data += piece
    try:
        return data.decode("utf-8") if len(data) <= KEY_FILE_SIZE_MAX else None
    except UnicodeDecodeError:
        return None
