"""Goal: the npm package age-encryption and we open each other's hybrid files and read one another's
keys.
Method: both directions over sizes at the borders of chunks, in few runs of Node.js.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from crypto import (
    CHUNK_SIZE,
    HybridIdentity,
    Meta,
    adopt_head,
    open_file,
    parse_identities,
    rewrap,
    scan_head,
    seal,
)
from tests.interop.node_modules import run_node
from tests.interop.own_vectors import CLASSIC, HYBRID
from tests.unit.crypto_samples import (
    HYBRID_CONTEXT,
    HYBRID_MINER,
    HYBRID_OUTSIDER,
    HYBRID_ROUTER,
    HYBRID_USER,
    USER,
    plaintext_of,
)

SIZES = [0, 1, CHUNK_SIZE - 1, CHUNK_SIZE, CHUNK_SIZE + 1, 2 * CHUNK_SIZE]
PARTIES = [HYBRID_USER, HYBRID_ROUTER, HYBRID_MINER]
RECIPIENTS = [party.recipient() for party in PARTIES]


def ask(questions: list[dict[str, Any]]) -> list[Any]:
    answer = json.loads(run_node("age.mjs", json.dumps({"ask": questions}).encode("ascii")))
    assert len(questions) == len(answer["answers"])
    return list(answer["answers"])


def text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def opening(data: bytes, *identities: str) -> dict[str, Any]:
    return {"do": "open", "file": text(data), "identities": identities}


def sealing(plaintext: bytes, *recipients: object) -> dict[str, Any]:
    return {"do": "seal", "plaintext": text(plaintext), "recipients": [*map(str, recipients)]}


def test_it_opens_what_we_seal() -> None:
    questions: list[dict[str, Any]] = []
    expected: list[str | None] = []
    for size in SIZES:
        sealed = seal(plaintext_of(size), RECIPIENTS, context=HYBRID_CONTEXT, meta=Meta("a/b"))
        for party in PARTIES:
            questions.append(opening(sealed.head + sealed.payload, party.to_text()))
            expected.append(text(plaintext_of(size)))
        questions.append(opening(sealed.head + sealed.payload, HYBRID_OUTSIDER.to_text()))
        expected.append(None)

    assert expected == ask(questions)


def test_we_open_what_it_seals() -> None:
    answers = ask([sealing(plaintext_of(size), *RECIPIENTS) for size in SIZES])

    for size, answer in zip(SIZES, answers, strict=True):
        for party in PARTIES:
            opened = open_file(base64.b64decode(answer), [HYBRID_OUTSIDER, party])
            assert plaintext_of(size) == opened


def test_it_opens_what_we_adopted_and_rewrapped() -> None:
    plaintext = plaintext_of(100_000)
    (answer,) = ask([sealing(plaintext, HYBRID_ROUTER.recipient())])
    data = base64.b64decode(answer)
    length = scan_head(data)
    assert length is not None
    adopted = adopt_head(data[:length], HYBRID_ROUTER, RECIPIENTS, context=HYBRID_CONTEXT)
    wanted = [HYBRID_OUTSIDER.recipient(), HYBRID_ROUTER.recipient()]
    head = rewrap(adopted.head, [HYBRID_ROUTER], current=RECIPIENTS, wanted=wanted)
    opened = ask(
        [
            opening(adopted.head + data[length:], HYBRID_MINER.to_text()),
            opening(head + data[length:], HYBRID_OUTSIDER.to_text()),
            opening(head + data[length:], HYBRID_MINER.to_text()),
        ]
    )

    assert [text(plaintext), text(plaintext), None] == opened


def test_keys_are_the_same() -> None:
    made = ask([{"do": "keygen"}] * 5)
    ours = [HybridIdentity.generate() for _ in range(5)]
    identities = [*made, *(identity.to_text() for identity in ours), USER.to_text()]
    recipients = ask([{"do": "recipient", "identity": identity} for identity in identities])

    for identity, recipient in zip(identities, recipients, strict=True):
        (parsed,) = parse_identities(identity)
        assert identity == parsed.to_text()
        assert recipient == str(parsed.recipient())


def test_it_opens_our_vectors() -> None:
    vectors = [*CLASSIC, *HYBRID]
    answers = ask([opening(vector.data, vector.identities[-1]) for vector in vectors])

    assert 3 == len(HYBRID)
    for vector, answer in zip(vectors, answers, strict=True):
        assert answer is not None, vector.name
        digest = hashlib.sha256(base64.b64decode(answer)).hexdigest()
        assert vector.plaintext_sha256 == digest, vector.name
