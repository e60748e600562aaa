"""``rewrap --pending``: new heads for all objects of a blind session that are for outdated keys."""

import argparse
import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp

from crypto import CryptoError, Identity, Recipient, parse_recipient, rewrap
from storage_gateway.blind_client import BlindClient
from storage_gateway.client import Client, ClientError
from storage_gateway.records import BLIND

from .blind import known_only
from .keys import all_identities, all_recipients
from .output import EXIT_FAILED, EXIT_OK, fail, note, progress
from .transfer import talk

PAGE = 200
TRIES = 3
RETRY_S = 0.5
CHANGED = frozenset({"generation_mismatch", "stale_parties"})
"""Codes that say that head or keys have changed since they were read."""
SERVER_ERRORS = 500


def rewrap_pending(options: argparse.Namespace) -> int:
    """Rewrap whatever is pending; exit 0 only if nothing of it failed."""
    return talk("rewrap", options, _run)


@dataclass(slots=True)
class _Report:
    rewrapped: int = 0
    changed: int = 0
    """Were rewrapped or erased by somebody else meanwhile."""
    failures: list[dict[str, str]] = field(default_factory=list)

    def as_json(self, *, dry_run: bool) -> dict[str, Any]:
        return {
            "dry_run": dry_run,
            "rewrapped": self.rewrapped,
            "changed": self.changed,
            "failed": len(self.failures),
            "failures": self.failures,
        }


@dataclass(frozen=True, slots=True)
class _Work:
    client: Client
    blind: BlindClient
    identities: Sequence[Identity]
    known: Sequence[Recipient] | None
    dry_run: bool


async def _run(options: argparse.Namespace, token: str) -> int:
    identities = all_identities(options.identity)
    listed = options.recipients_file
    known = None if listed is None else all_recipients([], listed)
    report = _Report()
    async with Client(options.url, token) as client:
        blind = BlindClient(client)
        session = await blind.session(options.session)
        if session["custody"] != BLIND:
            fail("rewrap", "the gateway rewraps this session itself: its custody is not blind")
            return EXIT_FAILED
        work = _Work(client, blind, identities, known, options.dry_run)
        pending = _pending(blind, options.session)
        with progress(None, "rewrap", quiet=options.quiet, unit=" objects") as advance:
            await _work_through(work, pending, report, advance, parallel=options.parallel)
    if options.json:
        print(json.dumps(report.as_json(dry_run=options.dry_run), indent=2))
    else:
        done = "could be rewrapped" if options.dry_run else "rewrapped"
        print(
            f"{report.rewrapped:,} {done}, {report.changed:,} changed meanwhile,"
            f" {len(report.failures):,} failed"
        )
    return EXIT_FAILED if report.failures else EXIT_OK


async def _pending(blind: BlindClient, session_id: str) -> AsyncIterator[dict[str, Any]]:
    cursor = None
    while True:
        # By the order of commits: what is done meanwhile moves nothing.
        page = await blind.pending(session_id, cursor, PAGE)
        for manifest in page["objects"]:
            yield manifest
        cursor = page["next"]
        if cursor is None:
            return


async def _work_through(
    work: _Work,
    pending: AsyncIterator[dict[str, Any]],
    report: _Report,
    advance: Callable[[int], None],
    *,
    parallel: int,
) -> None:
    """Do so many at a time; a failure is told and counted, and stops nothing."""
    lock = asyncio.Lock()

    async def next_one() -> dict[str, Any] | None:
        async with lock:
            return await anext(pending, None)

    async def work_on() -> None:
        while (manifest := await next_one()) is not None:
            try:
                # On a line of its own: a sum that is read before the wait loses the others' work.
                done = await _rewrap(work, manifest)
                report.rewrapped += done
                report.changed += not done
            except (ClientError, CryptoError, aiohttp.ClientError, TimeoutError) as error:
                code = error.code if isinstance(error, ClientError) else type(error).__name__
                detail = str(error) or code
                report.failures.append({"urn": manifest["urn"], "code": code, "detail": detail})
                note("rewrap", f"{manifest['urn']}: {detail} [{code}]")
            advance(1)

    async with asyncio.TaskGroup() as group:
        for _ in range(parallel):
            group.create_task(work_on())


async def _rewrap(work: _Work, manifest: dict[str, Any]) -> bool:
    """Rewrap one object; False: it is not to be rewrapped any more."""
    for tried in range(1, TRIES + 1):
        try:
            return await _rewrap_once(work, manifest)
        except ClientError as error:
            status = int(error.problem.get("status") or 0)
            if tried == TRIES or not (error.code in CHANGED or status >= SERVER_ERRORS):
                raise
        except (aiohttp.ClientError, TimeoutError):
            if tried == TRIES:
                raise
        await asyncio.sleep(RETRY_S * (tried - 1))
        manifest = await work.client.manifest(manifest["urn"])
        if not manifest["rewrap_pending"]:
            return False
    return False  # unreachable: the last try returns or raises


async def _rewrap_once(work: _Work, manifest: dict[str, Any]) -> bool:
    urn = manifest["urn"]
    try:
        head = await work.blind.header(urn)
    except ClientError as error:
        if error.code == "erased":
            return False
        raise
    wanted = [parse_recipient(party["recipient"]) for party in manifest["rewrap_for"]]
    current = [parse_recipient(party["recipient"]) for party in manifest["wrapped_for"]]
    new_head = await asyncio.to_thread(
        partial(
            rewrap,
            head,
            work.identities,
            current=current,
            wanted=known_only(wanted, work.known),
        )
    )
    if not work.dry_run:
        await work.blind.replace_header(
            urn, manifest["generation"], new_head, parties_id=manifest["parties_id"]
        )
    return True
