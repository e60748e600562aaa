"""Goal: an envelope opens for its parties, as what it was sealed as, and for nobody else.
Method: known answers under fixed randomness, an opening by the book, tampering with every bit.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    STANZAS_MAX,
    ClassMismatch,
    Context,
    ContextMismatch,
    CryptoError,
    Header,
    HeaderError,
    HeaderMACError,
    Meta,
    MetaError,
    NoIdentityMatch,
    PayloadError,
    RecipientError,
    Secret,
    Stanza,
    StanzaLimitError,
    X25519Identity,
    new_head,
    open_envelope,
    open_file,
    open_head,
    parse_header,
    scan_head,
    seal,
)
from crypto.head import build_head
from tests.unit.crypto_samples import (
    CONTEXT,
    MINER,
    OUTSIDER,
    ROUTER,
    USER,
    FixedRandom,
    flip,
    plaintext_of,
)

PARTIES = [USER, ROUTER, MINER]
RECIPIENTS = [party.recipient() for party in PARTIES]
META = Meta("text/plain", "answer.txt")
FILE_KEY = Secret(b"YELLOW SUBMARINE")
NONCE = bytes(range(16))
SMALL = seal(b"small", RECIPIENTS, context=CONTEXT, meta=META, random=FixedRandom("small"))


def hkdf(key: bytes, label: bytes, salt: bytes = bytes(32)) -> bytes:
    """One block of HKDF-SHA256 by hand (RFC 5869)."""
    return hmac.digest(hmac.digest(salt, key, "sha256"), label + b"\x01", "sha256")


HEAD_SHA256 = "68a6c03dc2d663401216a4ef96c42abe19755f539cb03b67e6ea663128645105"
PAYLOAD_SHA256 = "b3c666b9a0f8208a6e1c50792201cabe490e07fa5aff179020a2e480fedf2c2d"


def head_of(*stanzas: Stanza) -> bytes:
    """A head with a right MAC and any stanzas."""
    return build_head(stanzas, FILE_KEY, NONCE)


def test_a_known_answer() -> None:
    """The bytes of the format may never change; if they do, stored objects stop opening."""
    envelope = seal(
        plaintext_of(70_000), RECIPIENTS, context=CONTEXT, meta=META, random=FixedRandom("known")
    )
    lines = envelope.head[:-16].decode().splitlines()

    assert "-> storage-gateway/context-v1" == lines[1]
    assert HEAD_SHA256 == hashlib.sha256(envelope.head).hexdigest()
    assert PAYLOAD_SHA256 == hashlib.sha256(envelope.payload).hexdigest()


def test_the_order_of_stanzas_and_of_randomness() -> None:
    random = FixedRandom("order")
    sealed = new_head(RECIPIENTS, context=CONTEXT, meta=META, random=random)
    header = parse_header(sealed.head[:-16])
    types = ["storage-gateway/context-v1", "storage-gateway/meta-v1", *["X25519"] * 3]

    assert types == [stanza.type for stanza in header.stanzas]
    assert [16, 16, 12, 32, 32, 32] == random.drawn
    assert sealed.head[-16:] == open_head(sealed.head, [USER]).nonce
    assert len(sealed.head) == scan_head(sealed.head)


def test_keys_and_macs_are_those_of_the_format() -> None:
    random = FixedRandom("book")
    file_key, nonce = FixedRandom("book")(16), random(16)
    sealed = new_head([USER.recipient()], context=CONTEXT, random=FixedRandom("book"))
    opened = open_head(sealed.head, [USER])
    covered = sealed.head[: sealed.head.rindex(b"---") + 3]
    context_key = hkdf(file_key, b"storage-gateway/context-v1")

    assert file_key == opened.file_key.expose()
    assert nonce == file_key
    assert hmac.digest(hkdf(file_key, b"header"), covered, "sha256") == opened.header.mac
    assert hmac.digest(context_key, CONTEXT.canonical(), "sha256") == opened.header.stanzas[0].body
    print_expected = hkdf(file_key, b"storage-gateway/file-key-print-v1")
    assert print_expected == opened.file_key_print == sealed.file_key_print


@pytest.mark.parametrize("party", PARTIES)
@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 200_000])
def test_each_party_opens_and_an_outsider_does_not(party: X25519Identity, size: int) -> None:
    plaintext = plaintext_of(size)
    envelope = seal(plaintext, RECIPIENTS, context=CONTEXT, meta=META)
    whole = envelope.head + envelope.payload

    assert plaintext == open_envelope(envelope.head, envelope.payload, [party], context=CONTEXT)
    assert plaintext == open_file(whole, [OUTSIDER, party])
    assert META == open_head(envelope.head, [party]).meta()
    with pytest.raises(NoIdentityMatch):
        open_file(whole, [OUTSIDER])
    with pytest.raises(NoIdentityMatch):
        open_file(whole, [])


def test_any_buffer_is_taken() -> None:
    plaintext = plaintext_of(1000)
    for kind in (bytes, bytearray, memoryview):
        envelope = seal(kind(plaintext), RECIPIENTS, context=CONTEXT)
        whole = kind(envelope.head + envelope.payload)

        assert isinstance(envelope.payload, bytes)
        assert plaintext == open_file(whole, [USER])
        assert plaintext == open_envelope(envelope.head, kind(envelope.payload), [USER])


def test_nothing_is_drawn_twice() -> None:
    first, second = (seal(b"same", RECIPIENTS, context=CONTEXT, meta=META) for _ in range(2))
    first_head, second_head = (open_head(each.head, [USER]) for each in (first, second))

    assert first.payload != second.payload
    assert first_head.file_key != second_head.file_key
    assert first_head.file_key_print != second_head.file_key_print
    assert first_head.nonce != second_head.nonce
    bodies = [{stanza.body for stanza in each.header.stanzas} for each in (first_head, second_head)]
    assert bodies[0].isdisjoint(bodies[1])


@given(bit=st.integers(0, len(SMALL.head) * 8 - 1))
def test_any_flipped_bit_of_a_head_is_refused(bit: int) -> None:
    """A flip in the nonce changes the payload key, one in the header its form or its MAC."""
    in_nonce = bit // 8 >= len(SMALL.head) - 16
    expected: type[CryptoError] | tuple[type[CryptoError], ...]
    expected = PayloadError if in_nonce else (HeaderError, HeaderMACError, NoIdentityMatch)

    with pytest.raises(expected):
        open_envelope(flip(SMALL.head, bit), SMALL.payload, [USER], context=CONTEXT)


def test_a_changed_header_that_still_parses_fails_by_its_mac() -> None:
    header = parse_header(SMALL.head[:-16])
    changed = [
        dataclasses.replace(header, stanzas=header.stanzas[:-1]),
        dataclasses.replace(header, stanzas=(*header.stanzas, Stanza("new"))),
        dataclasses.replace(header, stanzas=header.stanzas[1:]),
        dataclasses.replace(
            header, stanzas=(header.stanzas[1], header.stanzas[0], *header.stanzas[2:])
        ),
        dataclasses.replace(header, mac=flip(header.mac, 0)),
    ]

    for each in changed:
        with pytest.raises(HeaderMACError):
            open_head(each.encode() + SMALL.head[-16:], [USER])


@pytest.mark.parametrize("size", range(len(SMALL.head)))
def test_any_truncation_of_a_head_is_refused(size: int) -> None:
    with pytest.raises(HeaderError):
        open_envelope(SMALL.head[:size], SMALL.payload, [USER])
    with pytest.raises(HeaderError):
        open_file(SMALL.head[:size], [USER])


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"0123456789abcdef"])
def test_an_extended_head_is_refused(tail: bytes) -> None:
    with pytest.raises(HeaderError):
        open_head(SMALL.head + tail, [USER])


def test_the_one_chunk_of_an_empty_object_must_be_genuine() -> None:
    empty = seal(b"", RECIPIENTS, context=CONTEXT)
    forged = flip(empty.payload, 5)

    assert b"" == open_envelope(empty.head, empty.payload, [USER], context=CONTEXT)
    with pytest.raises(PayloadError):
        open_envelope(empty.head, forged, [USER], context=CONTEXT)
    with pytest.raises(PayloadError):
        open_file(empty.head + forged, [USER])
    with pytest.raises(PayloadError):
        open_file(empty.head, [USER])


def test_head_and_payload_of_two_objects_do_not_open() -> None:
    other = seal(b"other", RECIPIENTS, context=CONTEXT)

    with pytest.raises(PayloadError):
        open_envelope(SMALL.head, other.payload, [USER], context=CONTEXT)


@pytest.mark.parametrize(
    "changes",
    [
        {"object_id": "c" * 32},
        {"payload_id": "c" * 32},
        {"session_id": "102"},
        {"task_id": "task.2"},
        {"direction": "input"},
        {"miner": None},
        {"miner": "0x" + "f" * 40},
        {"key_class": "hybrid"},
    ],
)
def test_another_place_is_refused(changes: dict[str, str | None]) -> None:
    other = dataclasses.replace(CONTEXT, **changes)  # type: ignore[arg-type]

    with pytest.raises(ContextMismatch):
        open_envelope(SMALL.head, SMALL.payload, [USER], context=other)
    assert b"small" == open_envelope(SMALL.head, SMALL.payload, [USER])


def test_a_context_moved_into_another_head_does_not_fit() -> None:
    stanza = parse_header(SMALL.head[:-16]).stanzas[0]
    opened = open_head(head_of(stanza, USER.recipient().wrap(FILE_KEY)), [USER])

    assert opened.has_context
    with pytest.raises(ContextMismatch, match="another object"):
        opened.check_context(CONTEXT)


def test_a_head_without_context_or_meta() -> None:
    opened = open_head(head_of(USER.recipient().wrap(FILE_KEY)), [USER])

    assert not opened.has_context
    assert None is opened.meta()
    with pytest.raises(ContextMismatch, match="no context"):
        opened.check_context(CONTEXT)


def test_meta_is_optional_and_limited() -> None:
    assert None is open_head(new_head(RECIPIENTS, context=CONTEXT).head, [USER]).meta()
    with pytest.raises(MetaError):
        new_head(RECIPIENTS, context=CONTEXT, meta=Meta("a/b", "n" * 1024))


def test_meta_of_another_head_does_not_open() -> None:
    stanza = parse_header(SMALL.head[:-16]).stanzas[1]
    opened = open_head(head_of(stanza, USER.recipient().wrap(FILE_KEY)), [USER])

    with pytest.raises(MetaError):
        opened.meta()


@pytest.mark.parametrize(
    "stanzas",
    [
        [Stanza("storage-gateway/context-v1", (), bytes(32))] * 2,
        [Stanza("storage-gateway/meta-v1", ("A" * 16,), bytes(144))] * 2,
        [Stanza("storage-gateway/context-v1", (), bytes(31))],
        [Stanza("storage-gateway/context-v1", ("x",), bytes(32))],
        [Stanza("storage-gateway/meta-v1", (), bytes(144))],
        [Stanza("storage-gateway/meta-v1", ("A" * 16,), bytes(143))],
        [Stanza("scrypt", ("AAAA", "18"), bytes(32))],
    ],
)
def test_stanzas_that_may_not_stand_there_are_refused(stanzas: list[Stanza]) -> None:
    with pytest.raises(HeaderError):
        open_head(head_of(*stanzas, USER.recipient().wrap(FILE_KEY)), [USER])


def test_a_passphrase_file_is_simply_not_for_us() -> None:
    with pytest.raises(NoIdentityMatch):
        open_head(head_of(Stanza("scrypt", ("AAAA", "18"), bytes(32))), [USER])


def test_any_order_of_stanzas_opens() -> None:
    wrapped = USER.recipient().wrap(FILE_KEY)
    grease = Stanza("x-grease", ("a", "b"), bytes(100))
    context, meta = parse_header(SMALL.head[:-16]).stanzas[:2]

    for stanzas in ([wrapped, meta, grease, context], [grease, wrapped], [context, wrapped, meta]):
        assert FILE_KEY == open_head(head_of(*stanzas), [OUTSIDER, USER]).file_key


class Other:
    """A recipient of another class."""

    key_class = "hybrid"

    def wrap(self, file_key: Secret, *, random: object = None) -> Stanza:
        raise NotImplementedError

    def check_stanza(self, stanza: Stanza) -> None:
        raise NotImplementedError


def test_classes_do_not_mix() -> None:
    hybrid = dataclasses.replace(CONTEXT, key_class="hybrid")

    with pytest.raises(ClassMismatch, match="in one header"):
        new_head([USER.recipient(), Other()], context=CONTEXT)
    with pytest.raises(ClassMismatch, match="classic recipients for a hybrid"):
        new_head(RECIPIENTS, context=hybrid)
    with pytest.raises(ClassMismatch, match="hybrid recipients for a classic"):
        new_head([Other()], context=CONTEXT)


def test_recipients_are_needed_and_limited() -> None:
    most = [USER.recipient()] * (STANZAS_MAX - 2)

    with pytest.raises(RecipientError, match="at least one"):
        new_head([], context=CONTEXT)
    with pytest.raises(StanzaLimitError):
        new_head([*most, USER.recipient()], context=CONTEXT, meta=META)
    assert open_head(new_head(most, context=CONTEXT, meta=META).head, [USER]).has_context


def test_a_malformed_stanza_before_the_right_one_is_final() -> None:
    wrapped = USER.recipient().wrap(FILE_KEY)
    broken = dataclasses.replace(wrapped, body=wrapped.body + b"\0")

    with pytest.raises(HeaderError, match="body"):
        open_head(head_of(broken, wrapped), [USER])


def test_the_context_is_not_part_of_the_texts() -> None:
    """Session, task and miner show to nobody who only holds the sealed file."""
    head = new_head(RECIPIENTS, context=CONTEXT, meta=META).head
    fields: Context = CONTEXT

    for value in dataclasses.astuple(fields)[:-1]:
        assert value.encode() not in head or len(value) < 4
    assert b"answer" not in head


def test_a_file_that_is_none_is_refused() -> None:
    for data in (b"", b"plaintext", Header((Stanza("a"),), bytes(32)).encode()):
        with pytest.raises(HeaderError):
            open_file(data, [USER])
