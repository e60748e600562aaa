"""Goal: recipients and identities are read and written as age-keygen does, and wrap as age does.
Method: known answers, the rejections that the format asks for, and an independent derivation.
"""

from __future__ import annotations

import datetime as dt
import hmac
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    CryptoError,
    HeaderError,
    IdentityError,
    RecipientError,
    Secret,
    SelfCheckError,
    Stanza,
    X25519Identity,
    X25519Recipient,
    bech32,
    format_identity_file,
    parse_identities,
    parse_recipient,
)
from crypto.curve import exchange, parse_point
from crypto.primitives import decode_base64, encode_base64
from tests.unit.crypto_samples import MINER, OUTSIDER, USER, FixedRandom, flip

USER_TEXT = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX"
USER_RECIPIENT = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"
FILE_KEY = Secret(b"YELLOW SUBMARINE")
# Points whose product with any clamped scalar is zero (https://cr.yp.to/ecdh.html, "validate").
LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]
NOT_CANONICAL = [
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    b"\x09" + bytes(30) + b"\x80",
]


def test_a_known_key_pair() -> None:
    identity = X25519Identity.parse(USER_TEXT)

    assert bytes([0x42] * 32) == identity.key.expose()
    assert USER_TEXT == identity.to_text()
    assert USER_RECIPIENT == str(identity.recipient())
    assert identity.recipient() == parse_recipient(USER_RECIPIENT)
    assert "classic" == identity.key_class == identity.recipient().key_class


@given(key=st.binary(min_size=32, max_size=32))
def test_texts_survive_the_round_trip(key: bytes) -> None:
    identity = X25519Identity(Secret(key))

    assert identity == X25519Identity.parse(identity.to_text())
    assert identity.recipient() == parse_recipient(str(identity.recipient()))


def test_generated_identities_differ() -> None:
    assert X25519Identity.generate() != X25519Identity.generate()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "age1",
        USER_RECIPIENT.upper(),
        USER_RECIPIENT[:-1],
        USER_RECIPIENT + "q",
        USER_RECIPIENT[:-1] + "q",
        USER_RECIPIENT.replace("zvk", "zVk"),
        " " + USER_RECIPIENT,
        USER_RECIPIENT + "\n",
        USER_TEXT,
        bech32.encode("age", bytes(31) + b"\x01" * 2),
        bech32.encode("ege", USER.recipient().key),
        "age1yubikey1qwt50d05nh5vutpdzmlg5wn80xq5negm4uj9ghv0snvdd3yysf5yw3rhl3t",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHsKLqeplhpW+uObz5dvMgjz1OxfM/XXUB+VHtZ6isGN",
    ],
)
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(RecipientError):
        parse_recipient(text)


class Lenient:
    """A library that has stopped to refuse the secret of zero."""

    def exchange(self, _point: X25519PublicKey) -> bytes:
        return bytes(32)


def test_a_secret_of_zero_is_refused_even_if_the_library_gives_it() -> None:
    private = cast("X25519PrivateKey", Lenient())

    assert exchange(private, parse_point(USER.recipient().key)) is None


@pytest.mark.parametrize("key", LOW_ORDER)
def test_no_file_key_is_wrapped_under_a_secret_of_zero(key: bytes) -> None:
    """Should a point of low order ever get past the constructor."""
    recipient = X25519Recipient(USER.recipient().key)
    object.__setattr__(recipient, "_point", X25519PublicKey.from_public_bytes(key))

    with pytest.raises(RecipientError, match="zero"):
        recipient.wrap(FILE_KEY)


@pytest.mark.parametrize("key", LOW_ORDER)
def test_a_recipient_of_low_order_is_refused(key: bytes) -> None:
    with pytest.raises(RecipientError, match="low order"):
        parse_recipient(bech32.encode("age", key))


@pytest.mark.parametrize("key", NOT_CANONICAL)
def test_a_recipient_that_is_not_canonical_is_refused(key: bytes) -> None:
    with pytest.raises(RecipientError, match="canonical"):
        parse_recipient(bech32.encode("age", key))


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(RecipientError, match="31"):
        X25519Recipient(bytes(31))
    with pytest.raises(IdentityError, match="33"):
        X25519Identity(Secret(bytes(33)))


def test_a_stanza_is_what_the_specification_says() -> None:
    ephemeral = FixedRandom("wrap")(32)
    stanza = USER.recipient().wrap(FILE_KEY, random=FixedRandom("wrap"))
    private = X25519PrivateKey.from_private_bytes(ephemeral)
    share = private.public_key().public_bytes_raw()
    shared = private.exchange(X25519PublicKey.from_public_bytes(USER.recipient().key))
    # HKDF with one block of output, by hand (RFC 5869).
    extracted = hmac.digest(share + USER.recipient().key, shared, "sha256")
    wrap_key = hmac.digest(extracted, b"age-encryption.org/v1/X25519\x01", "sha256")
    body = ChaCha20Poly1305(wrap_key).encrypt(bytes(12), FILE_KEY.expose(), None)

    assert Stanza("X25519", (encode_base64(share),), body) == stanza


def test_a_stanza_opens_for_its_identity_alone() -> None:
    stanza = USER.recipient().wrap(FILE_KEY)

    assert FILE_KEY == USER.unwrap(stanza)
    assert None is MINER.unwrap(stanza)
    assert None is USER.unwrap(Stanza("x25519", stanza.args, stanza.body))


def test_two_stanzas_for_one_recipient_differ() -> None:
    first, second = (USER.recipient().wrap(FILE_KEY) for _ in range(2))

    assert first.args != second.args
    assert first.body != second.body


def _malformed() -> list[Stanza]:
    good = USER.recipient().wrap(FILE_KEY, random=FixedRandom("malformed"))
    share = good.args[0]
    raw = decode_base64(share)
    assert raw is not None
    return [
        Stanza("X25519", (), good.body),
        Stanza("X25519", (share, share), good.body),
        Stanza("X25519", (share + "=",), good.body),
        Stanza("X25519", (share[:-1] + chr(ord(share[-1]) + 1),), good.body),
        Stanza("X25519", (encode_base64(raw + b"\0"),), good.body),
        Stanza("X25519", (encode_base64(raw[:-1]),), good.body),
        Stanza("X25519", ("*" * 43,), good.body),
        Stanza("X25519", ("ü" * 43,), good.body),
        Stanza("X25519", (share,), good.body[:-1]),
        Stanza("X25519", (share,), good.body + b"\0"),
        Stanza("X25519", (share,), b""),
        *(Stanza("X25519", (encode_base64(point),), good.body) for point in LOW_ORDER),
    ]


@pytest.mark.parametrize("stanza", _malformed())
def test_a_malformed_stanza_is_final(stanza: Stanza) -> None:
    with pytest.raises(HeaderError):
        USER.unwrap(stanza)


def test_the_shape_of_a_stanza_can_be_checked_without_a_key() -> None:
    recipient = USER.recipient()
    recipient.check_stanza(MINER.recipient().wrap(FILE_KEY))

    good = USER.recipient().wrap(FILE_KEY)
    for stanza in [Stanza("x25519", good.args, good.body), *_malformed()[:11]]:
        with pytest.raises(HeaderError):
            recipient.check_stanza(stanza)


def test_wrapping_checks_its_own_work() -> None:
    ephemeral = Secret(FixedRandom("wrap")(32))
    recipient = USER.recipient()
    stanza = recipient.wrap(FILE_KEY, random=FixedRandom("wrap"))
    recipient.verify(stanza, ephemeral, FILE_KEY)
    faulty = [
        (Stanza(stanza.type, stanza.args, flip(stanza.body, 100)), ephemeral, FILE_KEY),
        (
            Stanza(stanza.type, MINER.recipient().wrap(FILE_KEY).args, stanza.body),
            ephemeral,
            FILE_KEY,
        ),
        (Stanza("x25519", stanza.args, stanza.body), ephemeral, FILE_KEY),
        (stanza, Secret(FixedRandom("other")(32)), FILE_KEY),
        (stanza, ephemeral, Secret(bytes(16))),
        (MINER.recipient().wrap(FILE_KEY), ephemeral, FILE_KEY),
    ]

    for case in faulty:
        with pytest.raises(SelfCheckError):
            recipient.verify(*case)
    with pytest.raises(SelfCheckError):
        MINER.recipient().verify(stanza, ephemeral, FILE_KEY)


class Doubtful(X25519Recipient):
    """A recipient whose check always fails."""

    __slots__ = ()

    def verify(self, stanza: Stanza, ephemeral: Secret, file_key: Secret) -> None:
        raise SelfCheckError


def test_no_stanza_is_returned_unchecked() -> None:
    with pytest.raises(SelfCheckError):
        Doubtful(USER.recipient().key).wrap(FILE_KEY)


def test_a_short_random_source_is_refused() -> None:
    with pytest.raises(CryptoError, match="random source"):
        X25519Identity.generate(random=lambda size: bytes(size - 1))
    with pytest.raises(CryptoError, match="random source"):
        USER.recipient().wrap(FILE_KEY, random=lambda size: bytes(size + 1))


def test_an_identity_file_is_that_of_age_keygen() -> None:
    zone = dt.timezone(dt.timedelta(hours=1))
    created = dt.datetime(2021, 1, 2, 15, 30, 45, 999_999, tzinfo=zone)
    expected = (
        f"# created: 2021-01-02T15:30:45+01:00\n# public key: {USER_RECIPIENT}\n{USER_TEXT}\n"
    )

    assert expected == format_identity_file(USER, created)
    assert [USER] == parse_identities(expected)
    assert format_identity_file(USER, created.astimezone(dt.UTC)).startswith(
        "# created: 2021-01-02T14:30:45Z\n"
    )


def test_an_identity_file_needs_a_time_zone() -> None:
    with pytest.raises(IdentityError, match="time zone"):
        format_identity_file(USER, dt.datetime(2021, 1, 2))  # noqa: DTZ001 - the fault


def test_identity_files_may_have_comments_and_several_keys() -> None:
    text = f"# one\r\n{USER_TEXT}\r\n\n  # two\n{OUTSIDER.to_text()}"

    assert [USER, OUTSIDER] == parse_identities(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"# c\n\n{USER_TEXT[:-1]}\n", "line 3"),
        (f"{USER_TEXT}\n{USER_TEXT.lower()}\n", "line 2"),
        (f"{USER_TEXT} {USER_TEXT}", "line 1"),
        (USER_RECIPIENT, "line 1"),
        ("AGE-SECRET-KEY-PQ-1QQQQ", "line 1: not a hybrid identity"),
    ],
)
def test_a_faulty_identity_is_named_by_its_line_and_not_shown(text: str, line: str) -> None:
    with pytest.raises(IdentityError, match=line) as caught:
        parse_identities(text)

    assert USER_TEXT[20:40] not in str(caught.value)
    assert None is caught.value.__cause__


@pytest.mark.parametrize("text", ["", "\n\n", "# only\n# comments\n"])
def test_a_file_without_identity_is_refused(text: str) -> None:
    with pytest.raises(IdentityError, match="no identity"):
        parse_identities(text)


def test_an_identity_given_by_mistake_is_not_remembered() -> None:
    parse_recipient(USER_RECIPIENT)
    before = parse_recipient.cache_info().currsize

    with pytest.raises(RecipientError):
        parse_recipient(USER_TEXT)

    assert before == parse_recipient.cache_info().currsize > 0
