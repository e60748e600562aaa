"""What a transfer cannot do without, in one pinned loop, without a socket or an event loop.

Upload: seal, SHA-256 and tag of every leaf, write, fsync of each segment. Download: read, check the
tag of every leaf. A server on one core can come near these rates, less what receiving or sending
costs it.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from crypto import (
    CLASSIC,
    LEAF_PLAINTEXT_SIZE,
    LEAF_SIZE,
    SEGMENT_LEAVES,
    Context,
    Sealer,
    X25519Identity,
    check_leaf,
    leaf_tag,
    new_head,
    new_tag_key,
)

from .machine import cores, pinned

SEGMENTS_UNSYNCED_MAX = 2
"""As many as the gateway leaves open, so that the disk works while the next ones are sealed."""


def upload_limit(folder: Path, plaintext: bytes, size: int) -> Callable[[], float]:
    """Return what measures the rate, in MB/s of plaintext, of placing `size` bytes.

    `plaintext` is one leaf, sealed again and again under fresh chunk counters.
    """
    assert len(plaintext) == LEAF_PLAINTEXT_SIZE
    leaves = max(1, size // LEAF_PLAINTEXT_SIZE)

    def measure_once() -> float:
        target = folder / "limit"
        target.mkdir()
        _, core = cores()
        with pinned(core), ThreadPoolExecutor(1) as syncing:
            sealer = _sealer()
            began = time.perf_counter()
            _place(sealer, plaintext, leaves, target, syncing)
            seconds = time.perf_counter() - began
        shutil.rmtree(target)
        return leaves * LEAF_PLAINTEXT_SIZE / seconds / 1e6

    return measure_once


def download_limit(folder: Path, size: int) -> Callable[[], float]:
    """Return what measures the rate, in MB/s of sealed bytes, of reading and checking `size` bytes.

    Makes the file; who made the folder removes it.
    """
    path = folder / "limit-download"
    leaves = max(1, size // LEAF_SIZE)
    with path.open("wb") as file:
        leaf = os.urandom(LEAF_SIZE)
        for _ in range(leaves):
            file.write(leaf)
    key = new_tag_key(os.urandom)
    tag = leaf_tag(key, 0, leaf)

    def measure_once() -> float:
        _, core = cores()
        room = bytearray(LEAF_SIZE)
        with pinned(core), path.open("rb", buffering=0) as file:
            began = time.perf_counter()
            while file.readinto(room):
                check_leaf(key, 0, room, tag)
            return leaves * LEAF_SIZE / (time.perf_counter() - began) / 1e6

    return measure_once


def _place(
    sealer: Sealer, plaintext: bytes, leaves: int, target: Path, syncing: ThreadPoolExecutor
) -> None:
    room = bytearray(LEAF_SIZE)
    key = new_tag_key(os.urandom)
    unsynced: list[Future[None]] = []
    for first in range(0, leaves, SEGMENT_LEAVES):
        descriptor = os.open(target / str(first), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        for leaf in range(first, min(leaves, first + SEGMENT_LEAVES)):
            run = sealer.claim(LEAF_PLAINTEXT_SIZE, last=leaf == leaves - 1)
            run.seal_into(plaintext, room)
            hashlib.sha256(room).digest()
            leaf_tag(key, leaf, room)
            assert os.pwrite(descriptor, room, (leaf - first) * LEAF_SIZE) == LEAF_SIZE
        if len(unsynced) == SEGMENTS_UNSYNCED_MAX:
            unsynced.pop(0).result()
        unsynced.append(syncing.submit(_sync, descriptor, target))
    for future in unsynced:
        future.result()


def _sync(descriptor: int, folder: Path) -> None:
    os.fsync(descriptor)
    os.close(descriptor)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(descriptor)
    os.close(descriptor)


def _sealer() -> Sealer:
    context = Context("a" * 32, "b" * 32, "101", "1", "input", None, CLASSIC)
    return new_head([X25519Identity.generate().recipient()], context=context).sealer
