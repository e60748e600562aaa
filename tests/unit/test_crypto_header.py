"""Goal: exactly the headers of age v1 are read, each as early as it can be told, and written back.
Method: headers built by hand and broken in one place; round trips; every cut of a stream.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    HEADER_SIZE_MAX,
    STANZAS_MAX,
    Header,
    HeaderError,
    HeaderSizeError,
    Stanza,
    StanzaLimitError,
    parse_header,
    scan_head,
    stanza_class,
)

MAGIC = b"age-encryption.org/v1\n"
END = b"--- " + b"A" * 43 + b"\n"
STANZA = b"-> type arg\nAAAA\n"
NONCE = b"0123456789abcdef"
GOOD = MAGIC + STANZA + END

vchars = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
stanzas = st.builds(
    Stanza, vchars, st.lists(vchars, max_size=3).map(tuple), st.binary(max_size=200)
)
headers = st.builds(
    Header,
    st.lists(stanzas, min_size=1, max_size=6).map(tuple),
    st.binary(min_size=32, max_size=32),
)


def test_a_header_by_hand() -> None:
    data = MAGIC + b"-> X25519 share\n" + b"A" * 64 + b"\n\n" + b"-> !~ #\nAAA\n" + END
    expected = (Stanza("X25519", ("share",), bytes(48)), Stanza("!~", ("#",), bytes(2)))

    assert Header(expected, bytes(32)) == parse_header(data)
    assert data == Header(expected, bytes(32)).encode()


@given(header=headers)
def test_headers_survive_the_round_trip(header: Header) -> None:
    assert header == parse_header(header.encode())


@pytest.mark.parametrize("size", [0, 1, *range(45, 50), *range(93, 99), 144])
def test_bodies_around_the_length_of_a_line(size: int) -> None:
    header = Header((Stanza("a", (), bytes(size)),), bytes(32))

    assert header == parse_header(header.encode())


@given(header=headers, place=st.integers(0, 400), byte=st.binary(min_size=1, max_size=1))
def test_what_parses_is_written_back_byte_for_byte(header: Header, place: int, byte: bytes) -> None:
    data = bytearray(header.encode())
    place %= len(data)
    data[place : place + 1] = byte
    try:
        parsed = parse_header(bytes(data))
    except HeaderError:
        return

    assert bytes(data) == parsed.encode()


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "first line"),
        (MAGIC[:-1], "first line"),
        (MAGIC, "line 2"),
        (b"age-encryption.org/v2\n" + STANZA + END, "not an age file"),
        (MAGIC.replace(b"\n", b"\r\n") + STANZA + END, "not an age file"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl", "armored"),
        (b"\n" + GOOD, "not an age file"),
        (MAGIC + END, "at least one stanza"),
        (MAGIC + STANZA, "cut short"),
        (GOOD[:-1], "cut short"),
        (GOOD + b"\n", "more bytes"),
        (GOOD + END, "more bytes"),
        (GOOD + b"x", "more bytes"),
        (MAGIC + b"\n" + STANZA + END, "line 2"),
        (MAGIC + b"->\nAAAA\n" + END, "line 2"),
        (MAGIC + b"-> \nAAAA\n" + END, "line 2"),
        (MAGIC + b"->type\nAAAA\n" + END, "line 2"),
        (MAGIC + b"->  type\nAAAA\n" + END, "line 2"),
        (MAGIC + b"-> type \nAAAA\n" + END, "line 2"),
        (MAGIC + b"-> type  arg\nAAAA\n" + END, "line 2"),
        (MAGIC + b"-> ty\x7fpe\nAAAA\n" + END, "line 2"),
        (MAGIC + b"-> t\xe9\nAAAA\n" + END, "line 2"),
        (MAGIC + b"-> type\r\nAAAA\n" + END, "line 2"),
        (MAGIC + b"-> type\n" + END, "line 3"),
        (MAGIC + b"-> type\nAAA=\n" + END, "line 3"),
        (MAGIC + b"-> type\nAAB\n" + END, "line 3"),
        (MAGIC + b"-> type\nA\n" + END, "line 3"),
        (MAGIC + b"-> type\nAA-A\n" + END, "line 3"),
        (MAGIC + b"-> type\nAA AA\n" + END, "line 3"),
        (MAGIC + b"-> type\nAAAA\r\n" + END, "line 3"),
        (MAGIC + b"-> type\n" + b"A" * 65 + b"\n" + END, "line 3"),
        (MAGIC + b"-> type\n" + b"A" * 68 + b"\n" + END, "line 3"),
        (MAGIC + b"-> type\n" + b"A" * 64 + b"\n" + END, "line 4"),
        (MAGIC + b"-> type\nAAAA\nAAAA\n" + END, "line 4"),
        (MAGIC + STANZA + END[:-2] + b"\n", "line 4"),
        (MAGIC + STANZA + END.replace(b" ", b""), "line 4"),
        (MAGIC + STANZA + END.replace(b" ", b"  "), "line 4"),
        (MAGIC + STANZA + END[:-1] + b" \n", "line 4"),
        (MAGIC + STANZA + END[:-1] + b"=\n", "line 4"),
        (MAGIC + STANZA + END[:-1] + b"\r\n", "line 4"),
        (MAGIC + STANZA + END[:-2] + b"B\n", "line 4"),
        (MAGIC + STANZA + b"---\n", "line 4"),
        (MAGIC + STANZA + b"-" + END, "line 4"),
        (MAGIC + STANZA + END.removeprefix(b"--- "), "line 4"),
        (MAGIC + STANZA + END.removeprefix(b"-"), "line 4"),
    ],
)
def test_a_broken_header_is_refused_by_line(data: bytes, word: str) -> None:
    with pytest.raises(HeaderError, match=word):
        parse_header(data)
    if word != "more bytes":
        with pytest.raises(HeaderError):
            scan_head(data + NONCE, at_end=True)


@pytest.mark.parametrize(
    "stanza",
    [
        Stanza(""),
        Stanza("a b"),
        Stanza("a\n"),
        Stanza("ä"),
        Stanza("a", ("",)),
        Stanza("a", ("b", "c\n--- ")),
    ],
)
def test_a_stanza_that_could_not_be_read_back_is_not_written(stanza: Stanza) -> None:
    with pytest.raises(HeaderError):
        stanza.encode()


def test_a_header_needs_a_stanza_and_a_whole_mac() -> None:
    with pytest.raises(HeaderError, match="at least one"):
        Header((), bytes(32)).encode()
    with pytest.raises(HeaderError, match="32 bytes"):
        Header((Stanza("a"),), bytes(31)).encode()


def test_stanzas_are_limited() -> None:
    most = MAGIC + STANZA * STANZAS_MAX + END
    more = MAGIC + STANZA * (STANZAS_MAX + 1) + END

    assert STANZAS_MAX == len(parse_header(most).stanzas)
    assert len(most) + 16 == scan_head(most + NONCE)
    with pytest.raises(StanzaLimitError, match="at most 32"):
        parse_header(more)
    with pytest.raises(StanzaLimitError):
        scan_head(more + NONCE)
    with pytest.raises(StanzaLimitError):
        # The arrow of one stanza too many is enough.
        scan_head(MAGIC + STANZA * STANZAS_MAX + b"->")
    with pytest.raises(StanzaLimitError):
        Header((Stanza("a"),) * (STANZAS_MAX + 1), bytes(32)).encode()


def test_arrows_behind_the_header_are_no_stanzas() -> None:
    data = GOOD + NONCE + b"\n-> x\n" * 100

    assert len(GOOD) + 16 == scan_head(data)


def _header_of_size(size: int) -> bytes:
    """A lawful header of exactly that size, nearly all of it one argument."""
    rest = len(MAGIC + b"-> a \n\n" + END)
    return MAGIC + b"-> a " + b"x" * (size - rest) + b"\n\n" + END


def test_headers_are_limited_to_64_kibibytes() -> None:
    most, more = _header_of_size(HEADER_SIZE_MAX), _header_of_size(HEADER_SIZE_MAX + 1)

    assert most == parse_header(most).encode()
    assert HEADER_SIZE_MAX + 16 == scan_head(most + NONCE)
    assert None is scan_head(most)
    with pytest.raises(HeaderSizeError):
        parse_header(more)
    with pytest.raises(HeaderSizeError):
        scan_head(more)
    with pytest.raises(HeaderSizeError):
        scan_head(more[: HEADER_SIZE_MAX + 1])
    with pytest.raises(HeaderSizeError):
        scan_head(MAGIC + b"-> a\n" + b"A" * 64 + b"\n" + (b"A" * 64 + b"\n") * 2000)
    with pytest.raises(HeaderSizeError):
        Header((Stanza("a", ("x" * HEADER_SIZE_MAX,)),), bytes(32)).encode()


@given(header=headers, tail=st.binary(max_size=100))
def test_the_head_of_a_stream_is_found_when_it_is_whole(header: Header, tail: bytes) -> None:
    data = header.encode() + NONCE + tail
    length = len(header.encode()) + 16

    assert length == scan_head(data)
    assert length == scan_head(bytearray(data), at_end=True)
    assert length == scan_head(memoryview(data))


@given(header=headers)
def test_every_cut_of_a_head_asks_for_more(header: Header) -> None:
    data = header.encode() + NONCE
    step = max(1, len(data) // 60)
    for size in {*range(0, len(data), step), *range(len(data) - 20, len(data))}:
        assert None is scan_head(data[:size])
        with pytest.raises(HeaderError):
            scan_head(data[:size], at_end=True)


@pytest.mark.parametrize(
    ("prefix", "word"),
    [
        (b"b", "not an age file"),
        (b"\x00", "not an age file"),
        (b"age-encryption.org/v2", "not an age file"),
        (b"-----BEGIN AGE", "armored"),
        (b"---", "armored"),
        (MAGIC + b"x", "line 2"),
        (MAGIC + b"\n", "line 2"),
        (MAGIC + b"-x", "line 2"),
        (MAGIC + b"->x", "line 2"),
        (MAGIC + b"-> a\x00", "line 2"),
        (MAGIC + b"-> a\n*", "line 3"),
        (MAGIC + b"-> a\n" + b"A" * 65, "line 3"),
        (MAGIC + b"-> a\n" + b"A" * 64 + b"\n-> ", "line 4"),
        (MAGIC + STANZA + b"A", "line 4"),
        (MAGIC + STANZA + b"----", "line 4"),
        (MAGIC + STANZA + b"--- " + b"A" * 44, "line 4"),
        (MAGIC + STANZA + b"--- " + b"A" * 42 + b"B\n", "line 4"),
        (MAGIC + b"-> a\nAAB\n" + END, "line 3"),
        (MAGIC + END, "at least one"),
    ],
)
def test_a_stream_is_refused_as_soon_as_it_can_be_told(prefix: bytes, word: str) -> None:
    with pytest.raises(HeaderError, match=word):
        scan_head(prefix)
    with pytest.raises(HeaderError):
        scan_head(prefix + b"A" * 100_000)


@given(header=headers, place=st.integers(0, 1000), byte=st.binary(min_size=1, max_size=1))
def test_scanner_and_parser_agree(header: Header, place: int, byte: bytes) -> None:
    data = bytearray(header.encode())
    data[place % len(data) : place % len(data) + 1] = byte
    try:
        parse_header(bytes(data))
    except HeaderError:
        lawful = False
    else:
        lawful = True
    try:
        found = scan_head(bytes(data) + NONCE, at_end=True)
    except HeaderError:
        found = None

    # A fault can make an earlier line the end; the scanner stops there, and it must be lawful.
    assert not lawful or len(data) + 16 == found
    if found is not None:
        head = bytes(data[: found - 16])
        assert head == parse_header(head).encode()


def test_classes_of_stanzas() -> None:
    assert "classic" == stanza_class(Stanza("X25519"))
    assert "hybrid" == stanza_class(Stanza("mlkem768x25519"))
    assert None is stanza_class(Stanza("x25519"))
    assert None is stanza_class(Stanza("storage-gateway/context-v1"))
