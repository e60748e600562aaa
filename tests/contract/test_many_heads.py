"""Goal: after a rotation a job wraps every head of a big catalog anew, whatever their number.

Method: true heads without payloads, as the measurements make them: by night 100,000. The job is the
one that a gateway runs; some heads of all are opened with either key, and the census is taken.
"""

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from sqlalchemy import Connection, select

from bench.key_data import fill
from bench.pass_data import SESSION, config_of
from crypto import CLASSIC, NoIdentityMatch, X25519Identity, open_head
from storage_gateway.catalog.jobs import JobState
from storage_gateway.catalog.registry import Holder, add_key
from storage_gateway.catalog.tables import objects
from storage_gateway.catalog.wraps import take_census
from storage_gateway.jobs import Jobs
from storage_gateway.parts import open_parts
from storage_gateway.records import ROUTER, USER
from storage_gateway.rewrap import Rewrap

OPENED = 100


@pytest.mark.timeout(3600)
async def test_all_heads_of_a_big_catalog_are_wrapped_anew(tmp_path: Path, nightly: bool) -> None:
    count = 100_000 if nightly else 450  # by day of more than one page all the same
    await asyncio.to_thread(asyncio.run, fill(tmp_path, count))
    async with AsyncExitStack() as opened:
        parts = await open_parts(config_of(tmp_path), opened)
        threads = opened.enter_context(ThreadPoolExecutor(os.cpu_count()))
        new = X25519Identity.generate()
        before = await parts.catalog.read(_heads)

        def rotate(connection: Connection) -> None:
            holder, recipient = Holder(SESSION, USER, None), str(new.recipient())
            add_key(connection, holder, recipient=recipient, key_class=CLASSIC, proven=False)

        async def hold() -> None:
            pass

        await parts.catalog.run(rotate)
        work = Rewrap(parts.catalog, threads=threads, keyring=parts.keyring)
        jobs = Jobs(
            parts.catalog, instance_id="a", kinds={"rewrap": work}, hold_lease=hold, jobs_max=1
        )
        job = await jobs.start("rewrap", None, 0.0)
        async for now in jobs.watch(job.job_id):
            job = now
        counts = tuple(job.counts[name] for name in ("to_do", "done", "changed", "failed"))
        assert (JobState.DONE, (count, count, 0, 0)) == (job.state, counts)

        census = await parts.catalog.read(lambda c: list(take_census(c)))
        by_version = {
            (party.role, party.version): wrap.heads
            for wrap in census
            for party in wrap.parties
            if party.role in (USER, ROUTER)
        }
        assert {(USER, 2): count, (ROUTER, 1): count} == by_version
        after = await parts.catalog.read(_heads)
        assert count == len(before) == len(after)
        router = parts.keyring.opening()
        for object_id in sorted(after)[:: count // OPENED]:
            old, head = before[object_id], after[object_id]
            was, *now_opened = [open_head(old, router), open_head(head, [new])]
            now_opened += [open_head(head, [identity]) for identity in router]
            assert [was.file_key] * 2 == [each.file_key for each in now_opened]
            # The stanza of the user's old identity is gone, and no other one.
            gone = set(was.header.stanzas) - set(now_opened[0].header.stanzas)
            assert 1 == len(gone)
            with pytest.raises(NoIdentityMatch):
                open_head(old, [new])


def _heads(connection: Connection) -> dict[str, bytes]:
    return {
        row[0]: row[1] for row in connection.execute(select(objects.c.object_id, objects.c.head))
    }
