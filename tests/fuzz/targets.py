"""What is fuzzed: parsers of text and bytes that come from strangers, each with what must hold.

A target takes any bytes and returns; what it raises is a finding. What is accepted must be written
back byte for byte, what is refused must be refused with the type that the parser promises. Imports
nothing but the parsers, so that it can be run under coverage.
"""

from collections.abc import Callable
from hashlib import sha256
from typing import Final

import urn
from crypto import (
    ContextError,
    CryptoError,
    EnvelopeError,
    HeaderError,
    HybridIdentity,
    IdentityError,
    MetaError,
    OpenedHead,
    RecipientError,
    Secret,
    X25519Identity,
    bech32,
    open_head,
    parse_context,
    parse_header,
    parse_identities,
    parse_recipient,
    scan_head,
)
from urn.node import encode_file

NONCE: Final = bytes(16)
HYBRID_SEED_MIN: Final = 1000
IDENTITIES: Final = (X25519Identity(Secret(b"\x42" * 32)), HybridIdentity(Secret(b"\x42" * 32)))


def fuzz_header(data: bytes) -> None:
    """The parser and the search in a stream agree, and what is parsed is written back."""
    try:
        header = parse_header(data)
    except HeaderError:
        header = None
    if header is not None:
        assert data == header.encode()
        assert len(data) + len(NONCE) == scan_head(data + NONCE)
    try:
        length = scan_head(data)
    except HeaderError:
        assert header is None
        return
    if length is not None:
        assert data.startswith(parse_header(data[: length - len(NONCE)]).encode())


def fuzz_head(data: bytes) -> None:
    """A head opens or is refused; stanzas of ours and their bodies are read."""
    try:
        opened: OpenedHead = open_head(data, IDENTITIES)
        opened.meta()
    except (EnvelopeError, MetaError):
        return
    assert data == opened.header.encode() + opened.nonce


def fuzz_bech32(data: bytes) -> None:
    """A key has one text, and the error about a wrong one holds no part of it."""
    text = data.decode("latin-1")
    for parse, refusal in ((_recipient_text, RecipientError), (_identity_text, IdentityError)):
        try:
            assert text == parse(text)
        except refusal as error:
            _check_silence(error, text)
    # Of the right length and with a right checksum, so that what follows these checks is reached.
    prefix, size = ("age1pq", 1216) if len(data) > HYBRID_SEED_MIN else ("age", 32)
    checked = _with_checksum(prefix, data, -(-size * 8 // 5))
    try:
        assert checked == bech32.encode(prefix, bech32.decode(checked, prefix, size))
    except ValueError as error:
        assert "padding" in str(error)


def fuzz_context(data: bytes) -> None:
    """A context has one canonical form."""
    try:
        context = parse_context(data)
    except ContextError:
        return
    assert data == context.canonical()


def fuzz_urn(data: bytes) -> None:
    """What is parsed is written so that it parses to the same; the position of a fault is in it."""
    text = data.decode("latin-1")
    for parse in (urn.parse, urn.parse_name):
        try:
            parsed = parse(text)
        except urn.URNError as error:
            assert 0 <= error.position <= len(text)
        else:
            assert parsed == parse(str(parsed))


def fuzz_cid(data: bytes) -> None:
    """A content identifier has one text and one binary form."""
    text = data.decode("latin-1")
    try:
        assert text == str(urn.CID.parse(text))
    except urn.CIDError as error:
        assert 0 <= error.position <= len(text)
    try:
        assert data == urn.CID.from_bytes(data).bytes
    except urn.CIDError as error:
        assert 0 <= error.position <= len(data)


def fuzz_node(data: bytes) -> None:
    """A node has one encoding, that of its links or entries."""
    try:
        node = urn.parse_node(data)
    except urn.NodeError as error:
        assert 0 <= error.position <= len(data)
        return
    if isinstance(node, urn.FileNode):
        assert (node.link, data) == encode_file(node.links)
    else:
        assert (node.link, data) == urn.encode_directory(node.entries)


def fuzz_car(data: bytes) -> None:
    """An archive has one encoding, all in it is verified, and where pieces end means nothing."""
    whole = _read_archive([data])
    half = len(data) // 2
    assert whole == _read_archive([data[:half], data[half:]])
    assert whole == _read_archive([data[at : at + 1] for at in range(len(data))])
    roots, blocks, position = whole
    assert all(sha256(block).digest() == cid.digest for cid, block in blocks)
    if not roots:
        assert position is not None
        return
    written = urn.car_header(roots)
    written += b"".join(urn.car_section(cid, len(block)) + block for cid, block in blocks)
    assert data.startswith(written)
    assert position is not None or data == written
    assert position is None or position <= len(data)


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "header": fuzz_header,
    "head": fuzz_head,
    "bech32": fuzz_bech32,
    "context": fuzz_context,
    "urn": fuzz_urn,
    "cid": fuzz_cid,
    "node": fuzz_node,
    "car": fuzz_car,
}


def _read_archive(
    pieces: list[bytes],
) -> tuple[tuple[urn.CID, ...], list[tuple[urn.CID, bytes]], int | None]:
    """Return the roots, the blocks before any fault, and where that is."""
    reader, blocks = urn.CARReader(), []
    try:
        for piece in pieces:
            for cid, block in reader.feed(piece):
                blocks.append((cid, block))
        reader.finish()
    except urn.CARError as error:
        return reader.roots, blocks, error.position
    return reader.roots, blocks, None


def _recipient_text(text: str) -> str:
    return str(parse_recipient(text))


def _identity_text(text: str) -> str:
    identities = parse_identities(text)
    # A file may hold more than one, and comments: then there is no one text to compare with.
    alone = len(identities) == 1 and text == text.strip() and text.count("\n") == 0
    return identities[0].to_text() if alone else text


def _with_checksum(prefix: str, data: bytes, length: int) -> str:
    """Bech32 of any `length` values of 5 bits."""
    letters = bech32._ALPHABET
    values = [byte & 31 for byte in data[:length].ljust(length, b"\0")]
    checksum = bech32._polymod([*bech32._expand(prefix), *values, *bytes(6)]) ^ 1
    values += [checksum >> 5 * (5 - i) & 31 for i in range(6)]
    return f"{prefix}1" + "".join(letters[value] for value in values)


def _check_silence(error: CryptoError, text: str) -> None:
    middle = text[20:40]
    assert len(middle) < 20 or middle not in str(error)
