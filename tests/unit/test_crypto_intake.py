"""Goal: what was sealed for one scope opens in no other, and the derivation stays what it is, as
people hold files sealed to it. Method: HKDF written out with the standard library, and refusals.
"""

from __future__ import annotations

import hashlib
import hmac

import pytest

from crypto import (
    HybridIdentity,
    IdentityError,
    NoIdentityMatch,
    Secret,
    X25519Identity,
    intake_identity,
    new_bare_head,
    open_head,
)
from tests.unit.crypto_samples import MINER, USER


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """Return 32 bytes of HKDF-SHA256 (RFC 5869, sections 2.2 and 2.3)."""
    extracted = hmac.digest(salt, key, hashlib.sha256)
    return hmac.digest(extracted, info + b"\x01", hashlib.sha256)


@pytest.mark.parametrize("scope", ["101", "a.b_C", "s" * 64])
def test_the_derivation_is_hkdf_with_the_scope_as_salt(scope: str) -> None:
    derived = intake_identity(USER, scope)

    expected = hkdf(USER.key.expose(), scope.encode("ascii"), b"storage-gateway/intake-v1")
    assert X25519Identity(Secret(expected)) == derived


def test_scopes_and_identities_do_not_open_each_others_files() -> None:
    head = new_bare_head([intake_identity(USER, "101").recipient()]).head

    assert not open_head(head, [intake_identity(USER, "101")]).has_context
    for other in (intake_identity(USER, "102"), intake_identity(MINER, "101"), USER):
        with pytest.raises(NoIdentityMatch):
            open_head(head, [other])


@pytest.mark.parametrize("scope", ["sé", "\ud800", "\uff11"])
def test_a_scope_that_is_not_ascii_is_refused(scope: str) -> None:
    with pytest.raises(IdentityError, match="ASCII") as caught:
        intake_identity(USER, scope)

    assert scope not in str(caught.value)


def test_that_of_a_hybrid_identity_is_hybrid_and_derived_under_a_label_of_its_own() -> None:
    identity = HybridIdentity.generate()

    expected = hkdf(identity.key.expose(), b"101", b"storage-gateway/intake-hybrid-v1")
    assert HybridIdentity(Secret(expected)) == intake_identity(identity, "101")
    head = new_bare_head([intake_identity(identity, "101").recipient()]).head
    assert not open_head(head, [intake_identity(identity, "101")]).has_context
    with pytest.raises(NoIdentityMatch):
        open_head(head, [intake_identity(identity, "102")])
