"""Judging what a run left: after the load, with all faults off, by everything that is there."""

import asyncio
import hashlib
import itertools
import time
from collections.abc import Iterator, Mapping
from functools import partial

from sqlalchemy import Connection

from crypto import CryptoError, open_file
from storage_gateway.backends import Shelf
from storage_gateway.catalog.contents import read_contents
from storage_gateway.catalog.copies import BAD, PLACED, load_placements
from storage_gateway.catalog.objects import list_objects
from storage_gateway.catalog.segments import load_segments
from storage_gateway.errors import InternalError
from storage_gateway.findings import CheckReport
from storage_gateway.high_water import parse_mark
from storage_gateway.manifest_copies import parse_copy_name
from storage_gateway.markers import marker_key
from storage_gateway.records import Manifest, ObjectState, Segment
from storage_gateway.roots import ROOT
from storage_gateway.verify import Checker
from urn import mint

from .bodies import MARK_SIZE
from .load import Customer
from .record import OK
from .run_stores import OWN_FOLDER
from .trial import Trial
from .world import GatewayLike

DRAIN_S_MAX = 30.0
SEALED_READ_MAX = 20
SEARCHED_BYTES_MAX = 256 << 20
"""Of blobs, and of what else there is."""
AGE_VERSION_LINE = b"age-encryption.org/v1"
OWN = "the run's "
"""What the names of all that is not in a store begin with."""
MARKS_MAX = 100
READERS = 8
PAGE = 1000

Content = tuple[str, bytes]
"""What is searched, and its name."""

_INVARIANT_OF = {"orphan": 7, "copy": 7, "slot": 5, "segment": 1, "size": 1, "leaf": 1, "marker": 1}
"""By the kinds of a check's findings; all others say that an object cannot be read."""


async def judge(trial: Trial, gateway: GatewayLike) -> None:
    """Let recovery drain, then look at every promise, every object and every blob of the run."""
    await drain(trial)
    shelves = {n: s for n, s in trial.world.shelves.items() if n not in trial.liars}
    report = await asyncio.to_thread(_check, trial, shelves)
    _judge_findings(trial, report)
    await asyncio.to_thread(_judge_placements, trial)
    await _judge_promises(trial, gateway)
    await _judge_objects(trial, gateway)
    await asyncio.to_thread(_judge_secrets, trial, trial.world.shelves)
    internal = sum(trial.record.count(name, InternalError.code) for name in trial.record.outcomes)
    trial.verdict.require(
        "no request ended in an internal error",
        met=not internal,
        evidence=f"{internal} of {trial.record.total()} requests",
    )


async def drain(trial: Trial) -> None:
    """Wait until recovery has nothing left to do; note how long that took."""
    began = time.monotonic()
    left = await trial.world.unsettled()
    while left and time.monotonic() - began < DRAIN_S_MAX:
        await asyncio.sleep(0.05)
        left = await trial.world.unsettled()
    took_s = time.monotonic() - began
    trial.notes["drained_s"] = round(took_s, 3)
    for number in (5, 7):
        if left:
            trial.verdict.broken(number, f"after {took_s:.0f} s recovery still has {left}")
    if not left:
        trial.verdict.holds(5, f"recovery had nothing left after {took_s:.1f} s")


def _check(trial: Trial, shelves: Mapping[str, Shelf]) -> CheckReport:
    world = trial.world
    checker = Checker(
        catalog=world.catalog.inner,
        shelves=shelves,
        identities=world.parts.keyring.opening(),
        payloads=world.parts.payloads,
        marker=marker_key(world.parts.deployment_id),
        scope=world.prefix,
    )
    return checker.run()


def _judge_findings(trial: Trial, report: CheckReport) -> None:
    wrong: dict[int, list[str]] = {number: [] for number in (1, 2, 5, 7)}
    for finding in report.findings:
        said = f"{finding.kind} {finding.where}: {finding.detail}"
        if finding.copies_left is not None:
            said += f" ({finding.copies_left} copies left: {finding.remedy})"
        wrong[_INVARIANT_OF.get(finding.kind, 2)].append(said)
    trial.notes["leftovers_found"] = len(wrong[7])
    looked_at = f"{report.objects} objects, {report.bytes_verified} bytes looked at"
    for number, found in wrong.items():
        trial.verdict.judge(number, found, f"{looked_at}, nothing wrong")


def _judge_placements(trial: Trial) -> None:
    """Look whether the catalog names enough failure domains for each segment."""
    world = trial.world
    domains = {each.name: each.domain for each in world.stores}
    wrong, looked_at = [], 0
    for manifest in _manifests(trial):
        if manifest.state is not ObjectState.COMMITTED:
            continue
        segments, stored = world.catalog.inner.read_blocking(partial(_stored_of, manifest))
        for segment in segments:
            looked_at += 1
            where = {domains[name] for name, indexes in stored if segment.index in indexes}
            if len(where) < world.config.quorum:
                urn = mint(manifest.object_id).urn
                wrong.append(f"segment {segment.index} of {urn} came to {len(where)} domains only")
    said = f"{looked_at} segments are each in {world.config.quorum} failure domains or more"
    trial.verdict.judge(1, wrong, said)


def _stored_of(
    manifest: Manifest, connection: Connection
) -> tuple[tuple[Segment, ...], list[tuple[str, frozenset[int]]]]:
    segments = load_segments(connection, manifest.payload_id)
    stored = [
        entry
        for state in (PLACED, BAD)  # a copy that turned out to be bad had been there
        for entry in load_placements(connection, manifest.payload_id, state).items()
    ]
    return segments, stored


async def _judge_promises(trial: Trial, gateway: GatewayLike) -> None:
    """Read back every URN that was answered; open some sealed files as their user would."""
    wrong: list[str] = []
    promises = [
        (urn, *promise)
        for urn, promise in trial.ledger.acknowledged.items()
        if urn not in trial.ledger.erased
    ]
    waiting = iter(enumerate(promises))

    async def reader() -> None:
        for number, (urn, member, body) in waiting:
            customer = Customer(trial.http, lambda: gateway.url, member, trial.record)
            answer = await customer.fetch(urn, size=body.size)
            if answer.outcome != OK:
                wrong.append(f"{urn} was answered, and reading it says {answer.outcome}")
            elif answer.digest != body.digest:
                wrong.append(f"{urn} holds other bytes than were sent for it")
            if number < SEALED_READ_MAX and body.size < SEARCHED_BYTES_MAX // SEALED_READ_MAX:
                wrong.extend(await _judge_sealed(customer, urn, body.digest))

    await asyncio.gather(*(reader() for _ in range(READERS)))
    read = f"{len(promises)} URNs that were answered were read back, byte for byte"
    trial.verdict.judge(2, wrong, read)


async def _judge_sealed(customer: Customer, urn: str, digest: bytes) -> list[str]:
    answer = await customer.fetch(urn, size=SEARCHED_BYTES_MAX, sealed=True)
    if answer.outcome != OK:
        return [f"{urn} was answered, and fetching the sealed file says {answer.outcome}"]
    try:
        plaintext = open_file(answer.content, [customer.member.user])
    except CryptoError as error:
        return [f"{urn} does not open for its user: {type(error).__name__}"]
    same = hashlib.sha256(plaintext).digest() == digest
    return [] if same else [f"{urn} opens to other bytes than were sent for it"]


def _manifests(trial: Trial) -> Iterator[Manifest]:
    after: tuple[str, int] | None = None
    catalog = trial.world.catalog.inner

    while page := catalog.read_blocking(
        partial(list_objects, session_id=None, after=after, limit=PAGE)
    ):
        yield from page
        after = (page[-1].slot.session_id, page[-1].sequence)


async def _judge_objects(trial: Trial, gateway: GatewayLike) -> None:
    """Look at what nobody was told of, too: each must be whole, and of those sent for its slot."""
    manifests = await asyncio.to_thread(lambda: list(_manifests(trial)))
    wrong = []
    for manifest in manifests:
        urn = mint(manifest.object_id).urn
        if manifest.state is not ObjectState.COMMITTED or urn in trial.ledger.acknowledged:
            continue
        slot = manifest.slot
        offered = trial.ledger.offered.get((slot.session_id, slot.task_id, slot.direction), [])
        member = trial.members.get(slot.session_id)
        if member is None or not offered:
            wrong.append(f"{urn} lies where nothing was sent")
            continue
        customer = Customer(trial.http, lambda: gateway.url, member, trial.record)
        answer = await customer.fetch(urn, size=manifest.size)
        if answer.outcome != OK or answer.digest not in {body.digest for body in offered}:
            wrong.append(f"{urn} is none of the bodies that were sent for its task")
    trial.verdict.judge(
        8, wrong, f"{len(manifests)} objects each hold what was sent for their task"
    )


def _judge_secrets(trial: Trial, shelves: Mapping[str, Shelf]) -> None:
    """Search blobs for heads; blobs, the run's files and its tables for what was sent in clear."""
    bodies = (body for offered in trial.ledger.offered.values() for body in offered)
    marks = [body.mark for body in bodies if body.size >= MARK_SIZE][:MARKS_MAX]
    heads, plaintexts, searched = [], [], 0
    found = _first_of(files_and_tables(trial)), _first_of(_blobs(trial, shelves))
    for name, content in itertools.chain(*found):
        searched += len(content)
        # A copy of a manifest is an age file itself, and so is a mark; what is in it is sealed.
        begin = len(AGE_VERSION_LINE) if _is_age_file(trial.world.prefix, name) else 0
        if AGE_VERSION_LINE in content[begin:] and not name.startswith(OWN):
            heads.append(f"{name} holds an age header")
        if any(mark in content for mark in marks):
            plaintexts.append(f"{name} holds plaintext")
    looked = f"{searched} stored bytes searched for"
    trial.verdict.judge(3, heads, f"{looked} age headers: none")
    trial.verdict.judge(4, plaintexts, f"{looked} the marks of {len(marks)} bodies: none")


def _is_age_file(prefix: str, name: str) -> bool:
    return parse_copy_name(prefix, name) is not None or parse_mark(prefix, name) is not None


def _first_of(contents: Iterator[Content]) -> Iterator[Content]:
    """Yield the first one, and others as long as it is not too much."""
    searched = 0
    for name, content in contents:
        yield name, content
        searched += len(content)
        if searched > SEARCHED_BYTES_MAX:
            return


def files_and_tables(trial: Trial) -> Iterator[Content]:
    """Yield the run's own files but for its stores, and what is in its tables. Blocks."""
    folder = trial.world.folder
    stores = folder / OWN_FOLDER  # what lies there are blobs
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_relative_to(stores):
            yield f"{OWN}{path.name}", path.read_bytes()
    for table, content in read_contents(trial.world.catalog.inner):
        yield f"{OWN}table {table}", content


def _blobs(trial: Trial, shelves: Mapping[str, Shelf]) -> Iterator[Content]:
    for shelf in shelves.values():
        for blob in shelf.list(trial.world.prefix):
            if blob.key.endswith(f"/{ROOT}"):
                continue  # of a node: it is above the segments, and holds no bytes
            yield blob.key, shelf.read(blob.key, 0, blob.size)
