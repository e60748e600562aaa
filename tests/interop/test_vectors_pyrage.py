"""Goal: the classic envelopes of tests/vectors/envelopes.json open elsewhere too.
Method: rage, through pyrage, opens each for each of its parties, and for no other.
"""

from __future__ import annotations

import hashlib

import pyrage  # type: ignore[import-untyped]
import pytest

from tests.interop.own_vectors import CLASSIC, OwnVector


@pytest.mark.parametrize("vector", CLASSIC, ids=lambda vector: vector.name)
def test_it_opens_for_its_parties_alone(vector: OwnVector) -> None:
    for identity in vector.identities:
        plaintext = pyrage.decrypt(vector.data, [pyrage.x25519.Identity.from_str(identity)])
        assert vector.plaintext_sha256 == hashlib.sha256(plaintext).hexdigest()
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(vector.data, [pyrage.x25519.Identity.from_str(vector.stranger)])
