"""Goal: hybrid recipients and identities are read, written and used to wrap as age does.
Method: a derivation by hand from ML-KEM, X25519 and HKDF, and every rejection that the format asks
for.
"""

from __future__ import annotations

import copy
import datetime as dt
import hashlib
import hmac

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from hypothesis import given
from hypothesis import strategies as st

from crypto import (
    HeaderError,
    HybridIdentity,
    HybridRecipient,
    IdentityError,
    RecipientError,
    Secret,
    SelfCheckError,
    Stanza,
    bech32,
    format_identity_file,
    parse_identities,
    parse_recipient,
)
from crypto.primitives import decode_base64, encode_base64
from tests.unit.crypto_samples import (
    HYBRID_MINER,
    HYBRID_USER,
    USER,
    flip,
)
from tests.unit.test_crypto_keys import LOW_ORDER, NOT_CANONICAL

FILE_KEY = Secret(b"YELLOW SUBMARINE")
MLKEM_PUBLIC_SIZE = 1184
MLKEM_CIPHERTEXT_SIZE = 1088
# The identity of age's public vectors (C2SP/CCTV).
CCTV_TEXT = "AGE-SECRET-KEY-PQ-1HZLGZUPT4ETPKDEV8HSGFDCYZ4E522W0A7PU2LHT8EH9W6YLNC3SW78XKG"
USER_TEXT = HYBRID_USER.to_text()
RECIPIENT_TEXT = str(HYBRID_USER.recipient())


@given(seed=st.binary(min_size=32, max_size=32))
def test_texts_survive_the_round_trip(seed: bytes) -> None:
    identity = HybridIdentity(Secret(seed))
    text = str(identity.recipient())

    assert identity == HybridIdentity.parse(identity.to_text())
    assert [identity] == parse_identities(identity.to_text())
    assert identity.recipient() == parse_recipient(text)
    assert "hybrid" == identity.key_class == identity.recipient().key_class


def test_texts_look_as_age_writes_them() -> None:
    assert CCTV_TEXT == HybridIdentity.parse(CCTV_TEXT).to_text()
    assert RECIPIENT_TEXT.startswith("age1pq1")
    assert 7 + 1946 + 6 == len(RECIPIENT_TEXT)
    assert f"HybridRecipient({RECIPIENT_TEXT})" == repr(HYBRID_USER.recipient())


def test_generated_identities_differ() -> None:
    assert HybridIdentity.generate() != HybridIdentity.generate()


def test_no_private_part_shows_or_leaves() -> None:
    assert "HybridIdentity(key=Secret(redacted))" == repr(HYBRID_USER)
    with pytest.raises(TypeError, match="copied"):
        copy.deepcopy(HYBRID_USER)
    with pytest.raises(TypeError, match="unhashable"):
        hash(HYBRID_USER)


@pytest.mark.parametrize(
    "text",
    [
        RECIPIENT_TEXT.upper(),
        RECIPIENT_TEXT[:-1],
        RECIPIENT_TEXT + "q",
        RECIPIENT_TEXT[:-1] + ("q" if RECIPIENT_TEXT[-1] != "q" else "p"),
        RECIPIENT_TEXT.replace("age1pq1", "age1pQ1"),
        RECIPIENT_TEXT + "\n",
        USER_TEXT,
        "age1pq1",
        "age1pq1" + "q" * 1952,
        bech32.encode("age1pq", HYBRID_USER.recipient().key[:-1]),
        bech32.encode("age1pq", USER.recipient().key),
        bech32.encode("age", HYBRID_USER.recipient().key),
    ],
)
def test_what_is_no_recipient_is_refused(text: str) -> None:
    with pytest.raises(RecipientError):
        parse_recipient(text)


@pytest.mark.parametrize(
    ("x25519", "reason"),
    [
        *((point, "low order") for point in LOW_ORDER),
        *((point, "canonical") for point in NOT_CANONICAL),
    ],
)
def test_the_classic_part_of_a_recipient_is_checked(x25519: bytes, reason: str) -> None:
    with pytest.raises(RecipientError, match=reason):
        HybridRecipient(HYBRID_USER.recipient().key[:MLKEM_PUBLIC_SIZE] + x25519)


def test_coefficients_that_are_not_reduced_are_refused() -> None:
    # 12 bits a coefficient, below 3329 in a key; the first one is set to 3329.
    key = HYBRID_USER.recipient().key
    faulty = bytes([3329 & 0xFF, key[1] & 0xF0 | 3329 >> 8]) + key[2:]

    with pytest.raises(RecipientError, match="FIPS 203"):
        HybridRecipient(faulty)


def test_a_hybrid_recipient_in_capitals_is_still_named_as_one() -> None:
    with pytest.raises(RecipientError, match="not a hybrid recipient"):
        parse_recipient(RECIPIENT_TEXT.upper())


def test_keys_of_another_length_are_refused() -> None:
    with pytest.raises(RecipientError, match="1215"):
        HybridRecipient(HYBRID_USER.recipient().key[1:])
    with pytest.raises(IdentityError, match="31"):
        HybridIdentity(Secret(bytes(31)))


@pytest.mark.parametrize(
    "text", [USER_TEXT.lower(), USER_TEXT[:-1], USER_TEXT.replace("-PQ-", "-"), USER_TEXT + "Q"]
)
def test_what_is_no_identity_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(IdentityError, match="line 2") as caught:
        parse_identities(f"# comment\n{text}")

    assert USER_TEXT[20:40] not in str(caught.value).upper()
    assert None is caught.value.__cause__


def test_an_identity_file_is_that_of_age_keygen() -> None:
    created = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    text = format_identity_file(HYBRID_USER, created)

    expected = f"# created: 2026-01-02T03:04:05Z\n# public key: {RECIPIENT_TEXT}\n{USER_TEXT}\n"
    assert expected == text
    assert [HYBRID_USER, USER] == parse_identities(text + USER.to_text())


def labeled(suite: bytes, label: bytes, value: bytes) -> bytes:
    return b"HPKE-v1" + suite + label + value


def expand(secret: bytes, suite: bytes, label: bytes, info: bytes, size: int) -> bytes:
    message = size.to_bytes(2, "big") + labeled(suite, label, info) + b"\x01"
    return hmac.digest(secret, message, "sha256")[:size]


def unwrap_by_hand(seed: bytes, share: bytes, body: bytes) -> bytes:
    """X-Wing, then HPKE's key schedule in base mode (RFC 9180, section 5.1), both written out."""
    keys = hashlib.shake_256(seed).digest(96)
    ciphertext, point = share[:MLKEM_CIPHERTEXT_SIZE], share[MLKEM_CIPHERTEXT_SIZE:]
    quantum = MLKEM768PrivateKey.from_seed_bytes(keys[:64]).decapsulate(ciphertext)
    private = X25519PrivateKey.from_private_bytes(keys[64:])
    classic = private.exchange(X25519PublicKey.from_public_bytes(point))
    public = private.public_key().public_bytes_raw()
    secret = hashlib.sha3_256(quantum + classic + point + public + rb"\.//^\\"[:6]).digest()
    # KEM X-Wing 0x647a, KDF HKDF-SHA256 1, AEAD ChaCha20-Poly1305 3.
    suite = b"HPKE" + bytes.fromhex("647a00010003")
    info = b"age-encryption.org/mlkem768x25519"
    id_hash, info_hash = (
        hmac.digest(bytes(32), labeled(suite, label, value), "sha256")
        for label, value in ((b"psk_id_hash", b""), (b"info_hash", info))
    )
    schedule = b"\x00" + id_hash + info_hash
    extracted = hmac.digest(secret, labeled(suite, b"secret", b""), "sha256")
    key = expand(extracted, suite, b"key", schedule, 32)
    nonce = expand(extracted, suite, b"base_nonce", schedule, 12)
    return ChaCha20Poly1305(key).decrypt(nonce, body, None)


def test_a_stanza_is_what_the_specification_says() -> None:
    stanza = HYBRID_USER.recipient().wrap(FILE_KEY)
    share = decode_base64(stanza.args[0])

    assert share is not None
    assert ("mlkem768x25519", 1, 1120, 32) == (
        stanza.type,
        len(stanza.args),
        len(share),
        len(stanza.body),
    )
    opened = unwrap_by_hand(HYBRID_USER.key.expose(), share, stanza.body)
    assert FILE_KEY.expose() == opened


def test_a_stanza_opens_for_its_identity_alone() -> None:
    stanza = HYBRID_USER.recipient().wrap(FILE_KEY)

    assert FILE_KEY == HYBRID_USER.unwrap(stanza)
    assert None is HYBRID_MINER.unwrap(stanza)
    assert None is USER.unwrap(stanza)
    assert None is HYBRID_USER.unwrap(USER.recipient().wrap(FILE_KEY))
    assert None is HYBRID_USER.unwrap(Stanza("MLKEM768X25519", stanza.args, stanza.body))


def test_two_stanzas_for_one_recipient_differ() -> None:
    first, second = (HYBRID_USER.recipient().wrap(FILE_KEY) for _ in range(2))

    assert first.args != second.args
    assert first.body != second.body


def _good() -> tuple[Stanza, bytes]:
    good = HYBRID_USER.recipient().wrap(FILE_KEY)
    raw = decode_base64(good.args[0])
    assert raw is not None
    return good, raw


@given(data=st.data())
def test_one_flipped_bit_makes_it_another_ones(data: st.DataObject) -> None:
    good, raw = _good()
    kind = good.type
    share = flip(raw, data.draw(st.integers(0, len(raw) * 8 - 1)))
    body = flip(good.body, data.draw(st.integers(0, len(good.body) * 8 - 1)))

    assert None is HYBRID_USER.unwrap(Stanza(kind, good.args, body))
    # X25519 ignores the top bit of a point, but X-Wing hashes it, so that one too is no match.
    assert None is HYBRID_USER.unwrap(Stanza(kind, (encode_base64(share),), good.body))


def _malformed() -> list[Stanza]:
    good, raw = _good()
    kind, share = good.type, good.args[0]
    return [
        Stanza(kind, (), good.body),
        Stanza(kind, (share, share), good.body),
        Stanza(kind, (share + "=",), good.body),
        Stanza(kind, (share[:-1] + chr(ord(share[-1]) + 1),), good.body),
        Stanza(kind, (encode_base64(raw + b"\0"),), good.body),
        Stanza(kind, (encode_base64(raw[:-1]),), good.body),
        Stanza(kind, (encode_base64(raw[MLKEM_CIPHERTEXT_SIZE:]),), good.body),
        Stanza(kind, ("*" * len(share),), good.body),
        Stanza(kind, (share,), good.body[:-1]),
        Stanza(kind, (share,), good.body + b"\0"),
        Stanza(kind, (share,), b""),
        *(
            Stanza(kind, (encode_base64(raw[:MLKEM_CIPHERTEXT_SIZE] + point),), good.body)
            for point in LOW_ORDER
        ),
    ]


@pytest.mark.parametrize("stanza", _malformed())
def test_a_malformed_stanza_is_final(stanza: Stanza) -> None:
    with pytest.raises(HeaderError):
        HYBRID_USER.unwrap(stanza)
    with pytest.raises(HeaderError):
        HYBRID_USER.recipient().check_stanza(stanza)


@pytest.mark.parametrize("size", [0, 32, 1088, 1119, 1121, 1152])
def test_a_share_of_another_length_is_named_as_such(size: int) -> None:
    good, raw = _good()
    share = encode_base64((raw + bytes(32))[:size])

    with pytest.raises(HeaderError, match="1120 bytes"):
        HYBRID_USER.unwrap(Stanza(good.type, (share,), good.body))


def test_the_shape_of_a_stanza_is_of_its_type() -> None:
    good = HYBRID_MINER.recipient().wrap(FILE_KEY)
    HYBRID_USER.recipient().check_stanza(good)
    with pytest.raises(HeaderError, match="expected"):
        HYBRID_USER.recipient().check_stanza(Stanza("MLKEM768X25519", good.args, good.body))

    for recipient, other in ((HYBRID_USER.recipient(), USER), (USER.recipient(), HYBRID_USER)):
        with pytest.raises(HeaderError):
            recipient.check_stanza(other.recipient().wrap(FILE_KEY))


class Doubtful(HybridRecipient):
    """A recipient that takes no stanza for whole."""

    __slots__ = ()

    def check_stanza(self, stanza: Stanza) -> None:
        raise HeaderError


def test_no_stanza_is_returned_unchecked() -> None:
    with pytest.raises(SelfCheckError):
        Doubtful(HYBRID_USER.recipient().key).wrap(FILE_KEY)
