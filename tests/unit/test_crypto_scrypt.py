"""Goal: files that a passphrase opens are those of age, whoever makes them, and no file decides how
long we compute. Method: pyrage, the stock command at a terminal of its own, and headers that are
spoilt by hand.
"""

from __future__ import annotations

import os
import pty
import subprocess
import time
from pathlib import Path

import pyrage  # type: ignore[import-untyped] # it ships none
import pytest
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from crypto import (
    CHUNK_SIZE,
    HeaderError,
    HeaderMACError,
    IdentityError,
    NoIdentityMatch,
    PayloadError,
    Secret,
    open_with_passphrase,
    scan_head,
    seal_with_passphrase,
)
from crypto import scrypt as ours
from crypto.labels import STANZA_SCRYPT
from tests.requirements import need

PASSPHRASE = "correct horse battery staple ü"
SECRET = Secret(PASSPHRASE.encode())
QUICK = 4


def sealed(plaintext: bytes = b"text") -> bytes:
    return seal_with_passphrase(plaintext, SECRET, work_factor=QUICK)


@pytest.mark.parametrize("size", [0, 1, CHUNK_SIZE, CHUNK_SIZE + 1])
def test_pyrage_opens_what_we_seal(size: int) -> None:
    plaintext = bytes(size)

    assert plaintext == pyrage.passphrase.decrypt(sealed(plaintext), PASSPHRASE)
    assert plaintext == open_with_passphrase(sealed(plaintext), SECRET)


def test_we_open_what_pyrage_seals() -> None:
    data = pyrage.passphrase.encrypt(b"text", PASSPHRASE)

    assert b"text" == open_with_passphrase(data, SECRET)


def at_terminal(command: list[str], lines: int) -> None:
    """Run a command that asks for passphrases at a terminal, so often."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stdin=follower, stdout=follower, stderr=follower, start_new_session=True,
        preexec_fn=_take_terminal,  # noqa: PLW1509 - no threads here
    )  # fmt: skip
    os.close(follower)
    said = b""
    try:
        for _ in range(lines):
            while not said.rstrip(b" ").endswith(b":"):
                said += os.read(leader, 1024)
            os.write(leader, PASSPHRASE.encode() + b"\n")
            said = b""
        assert 0 == process.wait(60), said
    finally:
        process.kill()
        os.close(leader)


def _take_terminal() -> None:
    import fcntl  # noqa: PLC0415
    import termios  # noqa: PLC0415

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def test_stock_age_opens_what_we_seal_and_we_what_it_seals(tmp_path: Path) -> None:
    age = need("age", "apt-get install age")
    plain, theirs, mine, opened = (str(tmp_path / name) for name in ("p", "t", "m", "o"))
    Path(plain).write_bytes(b"an identity file")
    at_terminal([age, "-p", "-o", theirs, plain], 2)
    Path(mine).write_bytes(sealed(b"ours"))
    at_terminal([age, "-d", "-o", opened, mine], 1)

    assert b"an identity file" == open_with_passphrase(Path(theirs).read_bytes(), SECRET)
    assert b"ours" == Path(opened).read_bytes()


def test_what_is_not_ours_to_open_is_told_apart() -> None:
    data = sealed()
    head = scan_head(data)
    assert head is not None

    with pytest.raises(NoIdentityMatch):
        open_with_passphrase(data, Secret(b"another"))
    with pytest.raises(PayloadError):
        open_with_passphrase(data[:-1] + bytes([data[-1] ^ 1]), SECRET)
    at = data.index(b"\n--- ") + 5
    flipped = data[:at] + (b"B" if data[at : at + 1] == b"A" else b"A") + data[at + 1 :]
    with pytest.raises(HeaderMACError):
        open_with_passphrase(flipped, SECRET)
    with pytest.raises(IdentityError):
        open_with_passphrase(data, Secret(b""))


def spoilt(old: bytes, new: bytes) -> bytes:
    data = sealed()
    assert data.count(old) == 1
    return data.replace(old, new)


@pytest.mark.parametrize(
    "factor", [b"23", b"99", b"18446744073709551616", b"1" * 5000, b"0", b"04", b"+4", b"4a", b"-1"]
)
def test_a_work_factor_that_is_none_or_too_much_is_refused_at_once(
    factor: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_arguments: object) -> Scrypt:
        raise AssertionError("it was computed")

    data = spoilt(b" 4\n", b" " + factor + b"\n")
    monkeypatch.setattr(ours, "Scrypt", refuse)
    began = time.process_time()
    with pytest.raises(HeaderError):
        open_with_passphrase(data, SECRET)

    assert time.process_time() - began < 1


def test_the_limit_is_an_argument() -> None:
    with pytest.raises(HeaderError, match="beyond 3"):
        open_with_passphrase(sealed(), SECRET, work_factor_max=QUICK - 1)
    assert b"text" == open_with_passphrase(sealed(), SECRET, work_factor_max=QUICK)
    for factor in (0, 23, -1):
        with pytest.raises(IdentityError):
            seal_with_passphrase(b"", SECRET, work_factor=factor)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b" 4\n", b"\n"),
        (b" 4\n", b" 4 4\n"),
        (b"-> scrypt ", b"-> scrypt A"),
        (b"-> scrypt ", b"-> scrypt = "),
        (b"\n--- ", b"AAAA\n--- "),
        (b"\n--- ", b"\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 4\n\n--- "),
        (b"\n--- ", b"\n-> other\n\n--- "),
    ],
)
def test_a_malformed_stanza_is_refused(old: bytes, new: bytes) -> None:
    with pytest.raises(HeaderError):
        open_with_passphrase(spoilt(old, new), SECRET)


def test_nothing_shows_the_passphrase() -> None:
    party = ours._Passphrase(SECRET, QUICK)

    assert PASSPHRASE not in repr(party)
    assert STANZA_SCRYPT == party.wrap(Secret(bytes(16))).type
    with pytest.raises(IdentityError):
        party.to_text()
