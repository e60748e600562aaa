"""What the demo proves with: made input, needles to search for, stock tools to open with."""

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from crypto import CryptoError, Identity, X25519Identity, open_file

NEEDLE_SIZE = 24
BLOCK = 1 << 20
PIECES = 16
"""Pieces of the large input to search for."""


class Needles:
    """Short pieces of plaintexts, to be searched for in stored bytes."""

    def __init__(self) -> None:
        self._pieces: dict[bytes, str] = {}
        self._whole: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._pieces)

    def pieces(self) -> list[tuple[bytes, str]]:
        """Return every piece with its label."""
        return list(self._pieces.items())

    def add(self, label: str, plaintext: bytes) -> None:
        """Take pieces from all over a short plaintext."""
        self._whole[label] = plaintext
        for at in range(0, len(plaintext) - NEEDLE_SIZE, NEEDLE_SIZE):
            self._pieces[plaintext[at : at + NEEDLE_SIZE]] = label

    def add_piece(self, label: str, piece: bytes) -> None:
        """Take one piece."""
        self._pieces[piece] = label

    def matches(self, label: str, plaintext: bytes) -> bool:
        """Tell whether this is the plaintext that was added under the label."""
        return self._whole.get(label) == plaintext

    def write_control(self, path: Path) -> None:
        """Write every piece in clear, for a search that must find them."""
        path.write_bytes(b"\n".join(self._pieces))


class Digest:
    """Takes bytes and remembers their SHA-256 alone."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def write(self, data: bytes, /) -> None:
        """Take bytes."""
        self._hash.update(data)

    def hexdigest(self) -> str:
        """Return the SHA-256 of everything so far."""
        return self._hash.hexdigest()


class MadeInput:
    """Random bytes made while they are read; remembers their digest and some pieces of them."""

    def __init__(self, size: int, needles: Needles) -> None:
        self._left = size
        self._needles = needles
        self._next_piece = size
        self._piece_every = max(BLOCK, size // PIECES)
        self._digest = Digest()

    def read(self, size: int, /) -> bytes:
        """Return the next bytes."""
        data = os.urandom(min(self._left, size))
        self._left -= len(data)
        self._digest.write(data)
        if len(data) >= NEEDLE_SIZE and self._left <= self._next_piece:
            self._needles.add_piece("large input", data[:NEEDLE_SIZE])
            self._next_piece -= self._piece_every
        return data

    def digest(self) -> str:
        """Return the SHA-256 of everything read so far, in hex."""
        return self._digest.hexdigest()


def can_open(sealed: bytes, identity: Identity) -> bool:
    """Try to open a sealed file."""
    try:
        open_file(sealed, [identity])
    except CryptoError:
        return False
    return True


def find_in_files(folder: Path, needles: Needles) -> tuple[list[str], int]:
    """Search every file under a folder; return what was found where, and the bytes searched."""
    found: list[str] = []
    searched = 0
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()  # a segment at most: a few megabytes
        searched += len(content)
        found += [f"{path.name}: {label}" for piece, label in needles.pieces() if piece in content]
    return found, searched


def open_with_stock_tool(
    sealed: bytes, identity: X25519Identity, work: Path
) -> tuple[str, bytes | None]:
    """Open a sealed file with a tool that is not ours; return its name and the plaintext."""
    if shutil.which("age") is not None:
        key_file = work / "user-identity.txt"
        key_file.touch(mode=0o600)
        key_file.write_text(f"{identity.to_text()}\n")
        command = ["age", "--decrypt", "--identity", str(key_file)]
        done = subprocess.run(command, input=sealed, capture_output=True, check=False)  # noqa: S603
        return "age", done.stdout if done.returncode == 0 else None
    try:
        import pyrage  # type: ignore[import-untyped]
    except ImportError:
        return "no stock tool (install age)", None
    try:
        opened: bytes = pyrage.decrypt(
            sealed, [pyrage.x25519.Identity.from_str(identity.to_text())]
        )
    except pyrage.DecryptError:
        return "pyrage", None
    return "pyrage", opened
