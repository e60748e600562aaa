"""Goal: whatever fails, and whichever processes serve blocks, each block of a committed object is
found once those that serve them have been started, and none of any other.

Method: the histories of the simulation, in which each process draws whether it serves blocks. What
is left at rest is looked for in plain SQL; then all serve them, and what is found must be all there
is: for each leaf a row, and the root.
"""

from collections.abc import Iterator
from random import Random
from unittest import mock

import msgspec
import pytest

from storage_gateway.app import Gateway
from storage_gateway.catalog import work
from storage_gateway.config import Config
from storage_gateway.parts import Parts
from urn import CID

from . import node
from .history import History, Simulator

HISTORIES = 60
INDEXED_S_MAX = 60.0
WRONG = "blocks of"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with Simulator() as running:
        yield running


class Drawn:
    """Makes gateways, of which some serve blocks, or all of them."""

    def __init__(self, seed: int) -> None:
        self.all_serve = False
        self._random = Random(seed)

    def __call__(self, config: Config, parts: Parts) -> Gateway:
        serves = self.all_serve or self._random.random() < 0.5
        return Gateway(msgspec.structs.replace(config, serve_ipfs=serves), parts)


COUNTED = """
SELECT payload_id, cid,
    (SELECT sum(length(leaf_digests)) / 32 FROM segments AS one
        WHERE one.payload_id = objects.payload_id),
    (SELECT count(*) FROM blocks AS one
        WHERE one.payload_id = objects.payload_id AND leaf IS NOT NULL)
FROM objects WHERE state = 'committed'
"""


def lacking(history: History) -> list[str]:
    """Return the payloads of which the root, or a leaf, cannot be found."""
    rows = history.database.memory.rows
    known = set(rows("SELECT payload_id, digest FROM blocks"))
    return [
        payload_id
        for payload_id, cid, leaves, placed in rows(COUNTED)
        if leaves != placed or (payload_id, CID.parse(cid).digest) not in known
    ]


def live_through(simulator: Simulator, seed: int) -> tuple[list[str], int]:
    """Return what was wrong, and how many objects the passes after the last start had to enter."""
    drawn = Drawn(seed)
    with mock.patch.object(node, "Gateway", drawn), simulator.deployment(seed) as history:
        wrong = history.run().trouble
        entered = len(lacking(history))
        drawn.all_serve = True
        for each in history.nodes:
            each.kill("to serve blocks")
        history.start()
        limit_s = history.world.now + INDEXED_S_MAX
        history.world.run(lambda: not lacking(history), until_s=limit_s)
        return wrong, entered


def test_blocks_are_those_of_committed_objects_whoever_serves_them(simulator: Simulator) -> None:
    wrong, entered = [], 0
    for seed in range(HISTORIES):
        trouble, late = live_through(simulator, seed)
        wrong += [f"seed {seed}: {each}" for each in trouble]
        entered += late

    assert [] == wrong
    assert entered > HISTORIES // 2


def test_blocks_that_no_grave_takes_would_be_seen(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "_FORGET_PAYLOAD", work._FORGET_PAYLOAD[:2])

    assert any(
        WRONG in each for seed in range(HISTORIES) for each in live_through(simulator, seed)[0]
    )
