"""Goal: no chunk of a payload is sealed twice, and no key is made by mistake.

Method: many threads claim from one sealer; a rewrap with a wrong list; a Secret of a number.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from crypto import (
    CHUNK_SIZE,
    Context,
    HeaderError,
    Sealer,
    Secret,
    X25519Identity,
    new_head,
    rewrap,
)

THREADS = 4
CLAIMS = 4000
CONTEXT = Context("a" * 32, "b" * 32, "101", "7", "input", None, "classic")


def test_threads_never_claim_the_same_chunk() -> None:
    sealer = Sealer(Secret(bytes(32)))
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(THREADS) as threads:
            claims = [
                threads.submit(
                    lambda: [
                        sealer.claim(CHUNK_SIZE, last=False).first_chunk for _ in range(CLAIMS)
                    ]
                )
                for _ in range(THREADS)
            ]
            chunks = [chunk for claim in claims for chunk in claim.result()]
    finally:
        sys.setswitchinterval(interval)

    assert list(range(THREADS * CLAIMS)) == sorted(chunks)


def test_a_wrong_list_of_current_recipients_is_refused() -> None:
    user, miner = X25519Identity.generate(), X25519Identity.generate()
    head = new_head([user.recipient(), miner.recipient()], context=CONTEXT).head

    with pytest.raises(HeaderError, match="recipient stanza 1"):
        rewrap(
            head,
            [user],
            current=[miner.recipient(), user.recipient()],
            wanted=[miner.recipient()],
        )


def test_a_number_is_no_secret() -> None:
    with pytest.raises(TypeError):
        Secret(32)  # type: ignore[arg-type]
