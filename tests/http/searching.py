"""Looks for the bytes of a head, or for parts of them, in all that a deployment left anywhere.

In the forms in which something could hold them: as they are, as base64 (JSON), as hexadecimal
digits, each wherever it begins; what is wrapped in a stanza also without its base64. Copies of
manifests are sealed for the operator, who can open them: they are opened.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from crypto import CryptoError, Identity, open_file, recovery_identity
from storage_gateway.backends.s3_answers import read_unfinished_page, read_versions
from tests.databases import databases
from tests.gateway import RunningGateway
from tests.http.age_files import head_size
from tests.servers.s3 import Buckets, S3Server

PIECE = 24
_BASE64_LINE = re.compile(rb"(?:--- )?([A-Za-z0-9+/]{32,64})")
"""Of a stanza's body, or the MAC."""
_CONTEXT = b"-> storage-gateway/context"
"""What is in this stanza other heads of the session have, too."""


def head_of(sealed: bytes) -> bytes:
    """Return the head of a sealed file."""
    return sealed[: head_size(sealed)]


def pieces_of(head: bytes) -> set[bytes]:
    """Return what no other head has of this one, in pieces, in every form."""
    found, stanza = set[bytes](), b""
    for line in head[:-16].split(b"\n"):
        stanza = line if line.startswith(b"-") else stanza
        body = _BASE64_LINE.fullmatch(line)
        if body is None or stanza.startswith(_CONTEXT):
            continue
        found |= _forms(body[1])
        found |= _forms(base64.b64decode(body[1] + b"=" * (-len(body[1]) % 4)))
    return found | _forms(head[-16:])


def _forms(secret: bytes) -> set[bytes]:
    starts = {*range(0, len(secret) - PIECE, PIECE), max(0, len(secret) - PIECE)}
    pieces = {secret[at : at + PIECE] for at in starts}
    return pieces | {form for piece in pieces for form in _encoded(piece)}


def _encoded(piece: bytes) -> Iterator[bytes]:
    yield piece.hex().encode()
    for before in range(3):
        # Of base64 only what its neighbours have no part in.
        text = base64.b64encode(bytes(before) + piece)
        end = (before + len(piece)) // 3 * 4
        yield text[4 if before else 0 : end]


@dataclass(slots=True)
class Places:
    """All that there is to be searched; the same places before an erasure and after it."""

    folder: Path
    """Of the test: with the data folder, and the stores that are folders."""
    recovery: Identity = field(repr=False)
    buckets: list[tuple[S3Server, str]] = field(default_factory=list)
    repos: list[Path] = field(default_factory=list)
    """Of IPFS nodes."""

    def found(self, head: bytes) -> set[str]:
        """Return where anything of a head is: a kind of place, and how it lies there."""
        return self.holding(pieces_of(head))

    def holding(self, pieces: Iterable[bytes]) -> set[str]:
        """Return the places that hold any of the pieces."""
        wanted = tuple(pieces)
        assert wanted
        places, seen = set[str](), set[tuple[str, bytes]]()
        for place, content in self.contents():
            # A server's databases are alike for the most part, and a search takes its time.
            known = place, hashlib.blake2b(content, digest_size=16).digest()
            if known not in seen and any(piece in content for piece in wanted):
                places.add(place)
            seen.add(known)
        return places

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Yield all that there is: the kind of the place, and what is in it."""
        for root in (self.folder, *self.repos):
            for name, content in _files(root):
                yield from self._opened("files", name, content)
        if databases.server is not None:
            for name, content in _files(databases.server.folder):
                kind = "wal" if "pg_wal" in name else "postgresql"
                yield kind, content
        for server, bucket in self.buckets:
            others = Buckets(server.port, server.access_key, server.secret_key)
            for name, content in _versions(others, bucket):
                yield from self._opened("bucket", name, content)

    def _opened(self, kind: str, name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
        yield kind, content
        if content.startswith(b"age-encryption.org/v1\n"):
            try:
                yield f"{kind}, opened", open_file(content, [self.recovery])
            except CryptoError:
                assert "/manifests/" not in name, "a copy that does not open cannot be searched"


def _files(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in root.rglob("*"):
        try:
            if path.is_file():
                yield str(path), path.read_bytes()
        except FileNotFoundError:  # gone since it was listed
            continue


def _versions(others: Buckets, bucket: str) -> Iterator[tuple[str, bytes]]:
    """Yield all versions of all that is in a bucket; nothing may be left in parts."""
    _, listing = others.ask("GET", f"/{bucket}", query={"versions": "", "max-keys": "1000"})
    for version in read_versions(listing):
        if not version.is_marker:
            query = {"versionId": version.version}
            status, content = others.ask("GET", f"/{bucket}/{version.key}", query=query)
            assert status == 200, (version, status)
            yield version.key, content
    status, listing = others.ask("GET", f"/{bucket}", query={"uploads": ""})
    assert status == 200
    assert not read_unfinished_page(listing).uploads


def places_of(gateway: RunningGateway) -> Places:
    """Return the places of a gateway whose folder is that of the test; stores elsewhere apart."""
    recovery = recovery_identity(gateway.gateway.parts.copies_identity)
    return Places(gateway.data_dir.parent, recovery)
