"""What processes do in schedules, and what they find when they start.

Bodies are as large as they must be for the way through the code that they are for, no larger.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any

import pyrage  # type: ignore[import-untyped]

from crypto import LEAF_PLAINTEXT_SIZE, SEGMENT_LEAVES, intake_identity
from storage_gateway.backends.disk import Disk, OpenBlob
from storage_gateway.catalog.sessions import create_session, register_router
from storage_gateway.catalog.work import load_deployment
from storage_gateway.errors import BodyIncomplete, GatewayError
from storage_gateway.records import USER, Manifest, Party, Slot
from tests.workers import DEPLOYMENT, MARKER, SESSION, body_of

from .processes import HORIZON_S, LEASE_S, META, ROUTER, Process, start_process
from .world import Image, Ledger, World

SEGMENT = LEAF_PLAINTEXT_SIZE * SEGMENT_LEAVES
BYTES = Random(7).randbytes(2 * SEGMENT + 1)
SMALL = b"small"
LEAVES = BYTES[: 2 * LEAF_PLAINTEXT_SIZE + 100]
TWO_SEGMENTS = BYTES[: SEGMENT + 100]
THREE_SEGMENTS = BYTES

Run = Callable[[Process], Coroutine[Any, Any, None]]


def uploads(content: bytes, task_id: str = "1") -> Run:
    """Return a script that uploads a plaintext body."""

    async def run(process: Process) -> None:
        await process.upload(task_id, content, _sealing(content))

    return run


def _sealing(content: bytes) -> Callable[[Process, Slot], Coroutine[Any, Any, Manifest]]:
    async def seal(process: Process, slot: Slot) -> Manifest:
        return await process.uploads.seal(slot, process.session, body_of(content), META)

    return seal


def uploads_sealed(content: bytes) -> Run:
    """Return a script that uploads a file which a stock tool sealed."""
    intake = str(intake_identity(ROUTER, SESSION).recipient())
    sealed: bytes = pyrage.encrypt(content, [pyrage.x25519.Recipient.from_str(intake)])

    async def adopt(process: Process, slot: Slot) -> Manifest:
        return await process.uploads.adopt(slot, process.session, body_of(sealed))

    async def run(process: Process) -> None:
        await process.upload("1", content, adopt)

    return run


def breaks_off(content: bytes) -> Run:
    """Return a script whose body ends too early, so that the process clears it away itself."""

    async def body() -> AsyncGenerator[bytes]:
        async for piece in body_of(content):
            yield piece
        raise BodyIncomplete("for this test")

    async def seal(process: Process, slot: Slot) -> Manifest:
        return await process.uploads.seal(slot, process.session, body(), META)

    async def run(process: Process) -> None:
        await process.upload("1", content, seal, may_refuse=frozenset({"body_incomplete"}))

    return run


def rivals(content: bytes) -> Run:
    """Return a script that uploads to the slot that another one uploads to."""

    async def run(process: Process) -> None:
        refusals = frozenset({"slot_busy", "slot_taken"})
        await process.upload("1", content, _sealing(content), may_refuse=refusals)

    return run


async def _side_by_side(process: Process) -> None:
    await asyncio.gather(*(uploads(SMALL + b"%d" % n, str(n))(process) for n in range(2)))


async def _one_by_one(process: Process) -> None:
    for number in range(2):
        await uploads(SMALL + b"%d" % number, str(number))(process)


async def _erase(process: Process) -> None:
    await process.erase("before:victim")


async def _upload_and_erase(process: Process) -> None:
    await uploads(SMALL)(process)
    await process.erase(f"{process.name}:1")


async def _recover_once(process: Process) -> bool:
    """Do one pass, as the timer does, which tries again when one fails; True when all is done."""
    try:
        report = await process.recovery.run_once()
    except GatewayError:
        return False
    return not report.graves_waiting and not report.blobs_deleted and not report.failures


async def recover(process: Process) -> None:
    """Do what a process does that starts after a crash, until the horizon has passed."""
    await _recover_once(process)
    await recover_late(process)


async def recover_late(process: Process) -> None:
    """The same in fewer steps: nothing is tried before the leases have run out."""
    await process.let_pass(LEASE_S + 1)
    await _recover_once(process)
    for _ in range(4):
        await process.let_pass(HORIZON_S + 1)
        if await _recover_once(process):
            break


async def _take_over(process: Process) -> None:
    """Claim what others began whose leases have run out; twice, within the horizon."""
    await process.let_pass(LEASE_S + 1)
    await _recover_beside(process)


async def _recover_beside(process: Process) -> None:
    """Recover while no time passes: the others are alive."""
    for _ in range(2):
        await _recover_once(process)


def lives_on(run: Run) -> Run:
    """Return a script after which the same process recovers, and must leave no intent of its own:
    nobody else may claim what belongs to the living.
    """

    async def run_and_recover(process: Process) -> None:
        await run(process)
        await _recover_beside(process)
        query = partial(
            process.world.rows,
            "SELECT state FROM intents WHERE instance_id = :i",
            i=process.instance_id,
        )
        assert [] == await process.loop.run_in_executor(None, query)

    return run_and_recover


@dataclass(frozen=True, slots=True)
class Script:
    """What one process does, and what it finds."""

    run: Run
    victim: bytes = SMALL
    """The content of an object that is there before, and that some scripts erase."""
    write_quorum: int = 0
    """As in `Image`."""


SCRIPTS = {
    "upload-empty": Script(uploads(b"")),
    "upload-small": Script(uploads(SMALL)),
    "upload-leaves": Script(uploads(LEAVES)),
    "upload-segments": Script(uploads(TWO_SEGMENTS)),
    "upload-three": Script(uploads(THREE_SEGMENTS)),
    "sealed-small": Script(uploads_sealed(SMALL)),
    "sealed-segments": Script(uploads_sealed(TWO_SEGMENTS)),
    "broken-leaves": Script(breaks_off(LEAVES)),
    "broken-segments": Script(breaks_off(TWO_SEGMENTS)),
    "side-by-side": Script(_side_by_side),
    "one-by-one": Script(_one_by_one),
    "erase": Script(_erase),
    "erase-segments": Script(_erase, victim=TWO_SEGMENTS),
    "upload-erase": Script(_upload_and_erase),
    "rival": Script(rivals(SMALL)),
    "other-rival": Script(rivals(b"rival")),
    "lives-small": Script(lives_on(uploads(SMALL))),
    "lives-leaves": Script(lives_on(uploads(LEAVES))),
    "lives-segments": Script(lives_on(uploads(TWO_SEGMENTS))),
    "lives-sealed": Script(lives_on(uploads_sealed(LEAVES))),
    "lives-broken": Script(lives_on(breaks_off(LEAVES))),
    "lives-erase": Script(lives_on(_erase)),
    "both-leaves": Script(uploads(LEAVES), write_quorum=2),
    "both-segments": Script(uploads(TWO_SEGMENTS), write_quorum=2),
    "both-broken": Script(breaks_off(LEAVES), write_quorum=2),
    "both-erase": Script(_erase, write_quorum=2),
    "lives-both": Script(lives_on(uploads(LEAVES)), write_quorum=2),
    "either-leaves": Script(lives_on(uploads(LEAVES)), write_quorum=1),
    "either-erase": Script(lives_on(_erase), write_quorum=1),
    "take-over": Script(_take_over),
    "recover-beside": Script(_recover_beside),
    "recover": Script(recover),
}


def image_before(ledger: Ledger, script: Script, session_user: str) -> Image:
    """Return a deployment with a session and two objects, all of it durable, also where a planted
    bug would have lost it.
    """

    def prepare() -> World:
        world = World(ledger, write_quorum=script.write_quorum)
        ledger.run(lambda c: load_deployment(c, DEPLOYMENT))
        ledger.run(lambda c: register_router(c, str(ROUTER.recipient()), "classic"))
        ledger.run(
            lambda c: create_session(
                c,
                session_id=SESSION,
                custody="router",
                key_class="classic",
                members=[Party(USER, None, 1, session_user)],
                new_tokens=[],
                token_lifetime_s=3600,
            )
        )
        return world

    async def run(process: Process) -> None:
        await uploads(script.victim, "victim")(process)
        await uploads(b"bystander", "bystander")(process)

    world = prepare()
    _put_marker(world)
    process = start_process(world, "before")
    process.run(run)
    image = world.image()
    return image.after_power_cut([states - 1 for states in image.fs.choices()])


def _put_marker(world: World) -> None:
    for name, root in world.roots.items():
        blob = OpenBlob(Disk(name, root, world.fs), MARKER)
        blob.write(0, memoryview(b"marker"))
        blob.finish()
