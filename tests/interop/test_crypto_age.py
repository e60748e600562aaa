"""Goal: Debian's age opens ours, and we open what it seals; its key files are ours.
Method: the command itself, through pipes and files, over sizes at the borders of chunks.
"""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from crypto import (
    CHUNK_SIZE,
    Meta,
    X25519Identity,
    adopt_head,
    open_file,
    parse_identities,
    scan_head,
    seal,
)
from tests.interop.own_vectors import CLASSIC, OwnVector
from tests.requirements import need
from tests.unit.crypto_samples import CONTEXT, MINER, OUTSIDER, ROUTER, USER, plaintext_of

HOW = "apt-get install age"
SIZES = [0, 1, 100, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE, 3 * CHUNK_SIZE + 5]
PARTIES = [USER, ROUTER, MINER]
RECIPIENTS = [party.recipient() for party in PARTIES]


def age(*arguments: str, stdin: bytes) -> bytes:
    run = subprocess.run(
        [need("age", HOW), *arguments], input=stdin, capture_output=True, check=False, timeout=60
    )
    assert 0 == run.returncode, run.stderr.decode()
    return run.stdout


def identity_file(folder: Path, identity: X25519Identity) -> str:
    path = folder / "identity.txt"
    path.write_text(identity.to_text() + "\n", "ascii")
    return str(path)


@pytest.mark.parametrize("size", SIZES)
def test_it_opens_what_we_seal(size: int, tmp_path: Path) -> None:
    plaintext = plaintext_of(size)
    envelope = seal(plaintext, RECIPIENTS, context=CONTEXT, meta=Meta("text/plain", "a.txt"))
    data = envelope.head + envelope.payload

    for party in PARTIES:
        assert plaintext == age("-d", "-i", identity_file(tmp_path, party), stdin=data)


def test_it_refuses_to_open_for_another(tmp_path: Path) -> None:
    envelope = seal(b"text", RECIPIENTS, context=CONTEXT)
    command = [need("age", HOW), "-d", "-i", identity_file(tmp_path, OUTSIDER)]
    data = envelope.head + envelope.payload
    run = subprocess.run(command, input=data, capture_output=True, check=False, timeout=60)

    assert (True, b"") == (run.returncode != 0, run.stdout)


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_it_seals(size: int) -> None:
    plaintext = plaintext_of(size)
    options = [word for recipient in RECIPIENTS for word in ("-r", str(recipient))]
    data = age(*options, stdin=plaintext)

    for party in PARTIES:
        assert plaintext == open_file(data, [OUTSIDER, party])


def test_it_opens_what_we_adopted(tmp_path: Path) -> None:
    data = age("-r", str(ROUTER.recipient()), stdin=b"some text")
    length = scan_head(data)
    assert length is not None
    adopted = adopt_head(data[:length], ROUTER, RECIPIENTS, context=CONTEXT, meta=Meta("a/b"))

    file = adopted.head + data[length:]
    assert b"some text" == age("-d", "-i", identity_file(tmp_path, MINER), stdin=file)


@pytest.mark.parametrize("vector", CLASSIC, ids=lambda vector: vector.name)
def test_it_opens_our_vectors(vector: OwnVector, tmp_path: Path) -> None:
    path = tmp_path / "identity.txt"
    path.write_text(vector.identities[-1] + "\n", "ascii")
    plaintext = age("-d", "-i", str(path), stdin=vector.data)

    assert vector.plaintext_sha256 == hashlib.sha256(plaintext).hexdigest()


def test_its_key_files_are_ours() -> None:
    command = [need("age-keygen", HOW)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    (identity,) = parse_identities(text)

    assert f"# public key: {identity.recipient()}" == text.splitlines()[1]
    assert identity.to_text() == text.splitlines()[2]
