"""Goal: by a CID anybody gets what is right and was committed, no head, nothing that was erased,
and keeps no party waiting.

Method: gateways whose stores are damaged behind their backs, whose deletions fail, whose uploads
stall, that are started again with another setting. What must never be served is looked for by all
names that it could have. Three bugs are planted, one for each of these looks, and must be seen.
"""

import asyncio
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, delete, select

from storage_gateway import app, indexing
from storage_gateway import blocks as serving
from storage_gateway.backends import LocalStore
from storage_gateway.catalog import blocks as units
from storage_gateway.catalog.tables import blocks, objects, placements, segments
from storage_gateway.errors import BackendUnavailable
from storage_gateway.indexing import Indexing
from storage_gateway.records import Segment
from tests.gateway import (
    RunningGateway,
    eventually,
    open_session,
    payload_keys,
    running_gateway,
)
from tests.http.age_files import flipped
from tests.http.ipfs_world import SEALED_LEAF, Held, ask, hold, node, raw, unpacked, world
from tests.http.raw import CHUNKED, Answer, chunk, connected, request
from tests.http.steps import LEAF, PLAINTEXT, SEGMENT, fetch, made_bytes
from urn import CID, Codec

pytestmark = pytest.mark.both_databases

Plant = pytest.MonkeyPatch


async def rows(gateway: RunningGateway) -> set[tuple[Any, ...]]:
    """Return what the catalog holds of blocks."""
    found = await gateway.catalog.read(lambda c: c.execute(select(blocks)).all())
    return {tuple(row) for row in found}


def assert_refused(answer: Answer, status: int, code: str) -> None:
    """It is the problem wanted, and no block."""
    assert status == answer.status
    answer.problem(status, code)


async def assert_served(gateway: RunningGateway, held: Held) -> None:
    """Each block of an object is there, and so is its whole tree."""
    for cid, leaf in held.leaves:
        answer = await ask(gateway, f"{cid}?format=raw")
        assert (200, leaf) == (answer.status, answer.body)
    answer = await ask(gateway, f"{held.root}?format=car")
    assert held.payload == b"".join(
        block for cid, block in unpacked(answer.body)[1] if cid.codec is Codec.RAW
    )


async def assert_all_are(gateway: RunningGateway, status: int, code: str, *held: Held) -> None:
    """No block of these is served, in no form."""
    for each in held:
        for cid in (each.root, *(cid for cid, _ in each.leaves)):
            for kind in ("raw", "car"):
                assert_refused(await ask(gateway, f"{cid}?format={kind}"), status, code)


# The switch


async def test_off_it_is_an_unknown_path_and_nothing_is_written_down(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await open_session(gateway, "101")
        held = await hold(gateway, session, "t1", 9 * LEAF)
        for path in (f"{held.root}?format=raw", "bafkqaaa?format=raw", f"{held.root}/x"):
            for method in ("GET", "POST"):
                answer = await ask(gateway, path, method=method)
                assert "no such path" == answer.problem(404, "not_found")["detail"]

        assert set() == await rows(gateway)


async def test_a_token_is_neither_asked_for_nor_looked_at(tmp_path: Path) -> None:
    async with world(tmp_path) as held:
        for token in ("nobody", held.session.other_miner_token, held.gateway.operator_token):
            answer = await ask(
                held.gateway,
                f"{held.small.root}?format=raw",
                ("Authorization", f"Bearer {token}"),
            )
            assert held.small.payload == answer.body


async def test_what_was_committed_while_it_was_off_is_served_after_a_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_gateway(tmp_path, late_write_horizon_s=1000) as gateway:
        session = await open_session(gateway, "101")
        small = await hold(gateway, session, "small", 10)
        large = await hold(gateway, session, "large", 19 * LEAF + 3)
        erased = await hold(gateway, session, "erased", 9 * LEAF)
        await fetch(gateway, erased.urn, session.user_token, method="DELETE")
    settings = {"serve_ipfs": True, "late_write_horizon_s": 1000}
    caplog.set_level(logging.INFO, "storage_gateway")
    async with running_gateway(tmp_path, **settings) as gateway:

        async def is_indexed() -> bool:
            answers = [await ask(gateway, f"{h.root}?format=raw") for h in (small, large)]
            return all(answer.status == 200 for answer in answers)

        await eventually(is_indexed, what="the index")
        for held in (small, large):
            await assert_served(gateway, held)
        await assert_all_are(gateway, 404, "unknown_block", erased)
        by_the_pass = await rows(gateway)
        again = await hold(gateway, session, "again", 19 * LEAF + 3)
    async with running_gateway(tmp_path, **settings) as gateway:
        await assert_served(gateway, again)
        assert by_the_pass < await rows(gateway)

    told = [r for r in caplog.records if r.getMessage().startswith("payloads indexed")]
    assert [2] == [r.__dict__["payloads"] for r in told]


async def test_the_pass_enters_what_a_commit_enters(tmp_path: Path, monkeypatch: Plant) -> None:
    for limit in ("PAGE", "SEGMENTS_AT_ONCE", "NODES_AT_ONCE"):
        monkeypatch.setattr(indexing, limit, 1)
    async with world(tmp_path) as held:
        by_commits = await rows(held.gateway)
        query = select(objects.c.payload_id).where(objects.c.state == "committed")
        committed = set(await held.gateway.catalog.read(lambda c: c.scalars(query).all()))
        by_commits = {row for row in by_commits if row[1] in committed}
        await held.gateway.catalog.run(lambda c: c.execute(delete(blocks)))
        the_pass = Indexing(held.gateway.catalog)
        indexed = [await the_pass.run_once() for _ in range(2)]

        assert [2, 0] == indexed
        assert by_commits == await rows(held.gateway)


async def test_a_pass_that_was_cut_off_is_brought_to_its_end(tmp_path: Path) -> None:
    """The root comes last: while it is not there, the pass knows that it has not been through."""
    async with world(tmp_path) as held:
        whole = await rows(held.gateway)
        root = blocks.c.digest == held.large.root.digest
        some = blocks.c.digest == held.large.leaves[4][0].digest
        await held.gateway.catalog.run(lambda c: c.execute(delete(blocks).where(root | some)))

        assert 1 == await Indexing(held.gateway.catalog).run_once()
        assert whole == await rows(held.gateway)


async def test_an_object_that_is_damaged_keeps_no_other_from_being_indexed(tmp_path: Path) -> None:
    async with world(tmp_path) as held:

        def damage(connection: Connection) -> None:
            connection.execute(delete(blocks))
            of_large = select(objects.c.payload_id).where(objects.c.cid == str(held.large.root))
            payload_id = connection.execute(of_large).scalar_one()
            last = (segments.c.payload_id == payload_id) & (segments.c.segment == 1)
            connection.execute(segments.update().where(last).values(leaf_digests=b"x" * 64))

        await held.gateway.catalog.run(damage)

        assert 1 == await Indexing(held.gateway.catalog).run_once()
        await assert_served(held.gateway, held.small)
        assert_refused(
            await ask(held.gateway, f"{held.large.root}?format=car"), 404, "unknown_block"
        )


# Never served: a head, what was erased, what is not right


async def look_for_heads(folder: Path) -> None:
    """Ask for heads, and for sealed files, by the names that they would have as blocks."""
    async with world(folder) as held:
        for each in (held.small, held.large, held.erased):
            sealed = each.head + each.payload
            for content in (each.head, sealed, sealed[:SEALED_LEAF], each.head[:-16]):
                for cid in (raw(content), node(content)):
                    for kind in ("raw", "car"):
                        answer = await ask(held.gateway, f"{cid}?format={kind}")
                        assert_refused(answer, 404, "unknown_block")
        for each in (held.small, held.large):
            archive = (await ask(held.gateway, f"{each.root}?format=car")).body
            assert each.head not in archive
        stored = b"".join(row[3] or b"" for row in await rows(held.gateway))
        assert all(each.head not in stored for each in (held.small, held.large, held.erased))


async def test_no_head_is_a_block(tmp_path: Path) -> None:
    await look_for_heads(tmp_path)


async def test_a_head_that_could_be_asked_for_would_be_seen(
    tmp_path: Path, monkeypatch: Plant
) -> None:
    really = units.record_blocks

    def with_heads(
        connection: Connection,
        payload_id: str,
        placed: Iterable[Segment],
        nodes: Iterable[units.Node] = (),
    ) -> None:
        really(connection, payload_id, placed, nodes)
        query = select(objects.c.head).where(objects.c.head.is_not(None))
        for head in connection.execute(query).scalars():
            really(connection, payload_id, [], [(node(head), head)])

    monkeypatch.setattr(app, "record_blocks", with_heads)
    with pytest.raises(AssertionError):
        await look_for_heads(tmp_path)


async def look_for_what_was_erased(folder: Path, monkeypatch: Plant) -> None:
    """Ask for blocks of an erased object while no store lets go of its bytes."""
    async with world(folder) as held:

        async def stays(_store: LocalStore, _key: str) -> None:
            raise BackendUnavailable("it is not to be deleted now")

        monkeypatch.setattr(LocalStore, "delete", stays)
        token = held.session.user_token
        answer = await fetch(held.gateway, held.large.urn, token, method="DELETE")
        assert 202 == answer.status
        assert len(await payload_keys(held.gateway.catalog, held.gateway.store)) >= 2
        await assert_all_are(held.gateway, 410, "erased", held.large, held.erased)


async def test_what_was_erased_is_gone_though_its_bytes_are_there(
    tmp_path: Path, monkeypatch: Plant
) -> None:
    await look_for_what_was_erased(tmp_path, monkeypatch)


async def test_an_erased_leaf_that_is_served_would_be_seen(
    tmp_path: Path, monkeypatch: Plant
) -> None:
    def find_block(connection: Connection, cid: CID) -> units.Block | None:
        """Find it whatever became of its object."""
        is_leaf = cid.codec is Codec.RAW
        statement = units._LEAF if is_leaf else units._NODE
        row = statement.run(connection, {"digest_is": cid.digest}).first()
        if row is None:
            return None
        source = units.Source(row.object_id, row.payload_id, row.payload_size, None)
        if is_leaf:
            return units.Block(cid, source, leaf=row.leaf)
        return units.Block(cid, source, node=row.node)

    monkeypatch.setattr(serving, "find_block", find_block)
    with pytest.raises(AssertionError):
        await look_for_what_was_erased(tmp_path, monkeypatch)


async def look_for_what_is_damaged(folder: Path) -> None:
    """Ask for blocks whose bytes were changed in the store, at the beginning and further on."""
    async with world(folder) as held:
        keys = sorted(await payload_keys(held.gateway.catalog, held.gateway.store))
        files = [held.gateway.data_dir / "store" / key for key in keys]
        large = next(file for file in files if file.stat().st_size == 8 * SEALED_LEAF)
        good = large.read_bytes()
        large.write_bytes(flipped(good, 3 * SEALED_LEAF + 5))
        cid, _ = held.large.leaves[3]
        for kind in ("raw", "car"):
            assert_refused(await ask(held.gateway, f"{cid}?format={kind}"), 500, "blob_corrupt")
        whole = await ask(held.gateway, f"{held.large.root}?format=car")
        part = await ask(held.gateway, f"{held.large.root}?format=car&entity-bytes=0:9")
        assert (200, False) == (whole.status, whole.whole)  # broken off: it had begun
        assert (200, True) == (part.status, part.whole)
        large.write_bytes(flipped(good, 0))
        first = await ask(held.gateway, f"{held.large.root}?format=car")
        first.problem(500, "blob_corrupt")
        large.unlink()
        assert_refused(await ask(held.gateway, f"{cid}?format=raw"), 500, "blob_missing")
        assert 200 == (await ask(held.gateway, f"{cid}?format=raw", method="HEAD")).status


async def test_bytes_that_are_not_those_of_the_cid_are_never_sent(tmp_path: Path) -> None:
    await look_for_what_is_damaged(tmp_path)


async def test_a_leaf_that_is_served_unverified_would_be_seen(
    tmp_path: Path, monkeypatch: Plant
) -> None:
    monkeypatch.setattr(serving, "_check", lambda _digest, block: block)
    with pytest.raises(AssertionError):
        await look_for_what_is_damaged(tmp_path)


async def test_a_node_that_is_damaged_in_the_catalog_is_never_sent(tmp_path: Path) -> None:
    async with world(tmp_path) as held:
        root = blocks.c.digest == held.large.root.digest
        damaged = blocks.update().where(root).values(node=b"something else")
        await held.gateway.catalog.run(lambda c: c.execute(damaged))
        for kind in ("raw", "car"):
            answer = await ask(held.gateway, f"{held.large.root}?format={kind}")
            assert_refused(answer, 500, "blob_corrupt")


# Rows come with segments and go with graves


async def test_leaves_of_an_upload_under_way_are_not_served(tmp_path: Path) -> None:
    settings = {"serve_ipfs": True, "late_write_horizon_s": 0.2, "body_idle_s": 60}
    async with running_gateway(tmp_path, **settings) as gateway:
        session = await open_session(gateway, "101")
        async with connected(gateway.address) as connection:
            path, token = session.path("t1"), session.user_token
            await connection.send(request("POST", path, token, headers=[CHUNKED]))
            # The row of the third segment comes with the leaves of the first one.
            for start in range(0, 2 * SEGMENT + LEAF + 1, LEAF):
                await connection.send(chunk(made_bytes(LEAF, start)))

            async def leaves() -> list[CID]:
                return [CID(Codec.RAW, row[0]) for row in await rows(gateway)]

            for cid in await eventually(leaves, what="the first leaves"):
                for kind in ("raw", "car"):
                    answer = await ask(gateway, f"{cid}?format={kind}")
                    assert_refused(answer, 404, "unknown_block")
        await eventually(lambda: _has_no_rows(gateway), what="an empty table")


async def _has_no_rows(gateway: RunningGateway) -> bool:
    return not await rows(gateway)


async def test_rows_go_when_the_grave_is_closed(tmp_path: Path) -> None:
    async with world(tmp_path, late_write_horizon_s=0.2) as held:
        token = held.session.user_token
        await fetch(held.gateway, held.large.urn, token, method="DELETE")
        kept = 1  # the small object's leaf

        async def are_gone() -> bool:
            return len(await rows(held.gateway)) == kept

        await eventually(are_gone, what="their end")
        await assert_all_are(held.gateway, 404, "unknown_block", held.large, held.erased)
        await assert_served(held.gateway, held.small)


async def test_an_erasure_in_the_midst_of_an_archive_breaks_it_off(tmp_path: Path) -> None:
    # Little memory: no more than a leaf is read ahead of the one that waits to be sent.
    settings = {"body_idle_s": 60, "ipfs_memory_bytes": 2 << 20}
    async with world(tmp_path, **settings) as held, connected(held.gateway.address) as slow:
        await slow.send(request("GET", f"/ipfs/{held.large.root}?format=car"))
        first = await slow.reader.readuntil(b"\r\n\r\n")
        token = held.session.user_token
        erased = await fetch(held.gateway, held.large.urn, token, method="DELETE")
        rest = b""
        try:
            while piece := await slow.reader.read(1 << 16):
                rest += piece
        except ConnectionResetError:
            pass

        assert first.startswith(b"HTTP/1.1 200 ")
        assert 202 == erased.status
        assert not rest.endswith(b"0\r\n\r\n")  # the last chunk of a whole answer


# Several stores


async def test_what_one_store_has_wrong_another_one_serves(tmp_path: Path) -> None:
    """Each has another object wrong: whichever is asked first, the other one is needed."""
    backends = [{"kind": "local", "name": n, "path": str(tmp_path / n)} for n in ("one", "two")]
    async with world(tmp_path, backends=backends, reserve_bytes=0) as held:
        small = len(held.small.payload)
        for file in tmp_path.glob("*/**/payloads/*/*"):
            spoiled = "one" if file.stat().st_size == small else "two"
            if spoiled == file.relative_to(tmp_path).parts[0]:
                file.write_bytes(flipped(file.read_bytes(), 10))
        await assert_served(held.gateway, held.small)
        await assert_served(held.gateway, held.large)
        bad = select(placements.c.backend).where(placements.c.state == "bad")

        async def is_noted() -> bool:
            return bool(await held.gateway.catalog.read(lambda c: c.scalars(bad).all()))

        await eventually(is_noted, what="a mark")


async def test_a_store_that_the_session_did_not_want_is_not_asked(tmp_path: Path) -> None:
    backends = [{"kind": "local", "name": n, "path": str(tmp_path / n)} for n in ("one", "two")]
    settings = {"backends": backends, "write_quorum": 1, "reserve_bytes": 0, "serve_ipfs": True}
    async with running_gateway(tmp_path, **settings) as gateway:
        session = await open_session(gateway, "101", backends=["two"])
        held = await hold(gateway, session, "t1", 100)
        stored = next(
            f for f in (tmp_path / "two").rglob("*") if "payloads" in f.parts and f.is_file()
        )
        copied = tmp_path / "one" / stored.relative_to(tmp_path / "two")
        await asyncio.to_thread(lambda: copied.parent.mkdir(parents=True, exist_ok=True))
        copied.write_bytes(stored.read_bytes())
        await assert_served(gateway, held)
        stored.unlink()
        assert_refused(await ask(gateway, f"{held.root}?format=raw"), 500, "blob_missing")


# Memory, and those who read slowly


async def test_strangers_who_do_not_read_keep_no_party_waiting(tmp_path: Path) -> None:
    least = 2 << 20
    settings = {
        "ipfs_memory_bytes": least,
        "read_memory_bytes": least,
        "memory_wait_s": 0.1,
        "body_idle_s": 60,
    }
    async with world(tmp_path, **settings) as held, connected(held.gateway.address) as slow:
        await slow.send(request("GET", f"/ipfs/{held.large.root}?format=car"))
        await slow.reader.readuntil(b"\r\n\r\n")  # and no further
        stranger = await ask(held.gateway, f"{held.large.root}?format=car")
        answer = stranger.problem(503, "busy")
        token = held.session.user_token
        party = await fetch(held.gateway, held.large.urn, token, headers=[PLAINTEXT])
        small = await ask(held.gateway, f"{held.small.root}?format=raw")

        assert "2" == stranger.header("Retry-After")
        assert answer["remedy"]
        assert (200, True) == (party.status, party.whole)
        assert 200 == small.status


async def test_whoever_goes_away_gives_back_what_was_held(tmp_path: Path) -> None:
    async with world(tmp_path, ipfs_memory_bytes=2 << 20, memory_wait_s=0.1) as held:
        for _ in range(3):
            async with connected(held.gateway.address) as gone:
                await gone.send(request("GET", f"/ipfs/{held.large.root}?format=car"))
                await gone.reader.readuntil(b"\r\n\r\n")
                gone.abort()

            async def is_served() -> bool:
                answer = await ask(held.gateway, f"{held.large.root}?format=car")
                return answer.status == 200 and answer.whole

            await eventually(is_served, what="the next one")
        blocks_served = held.gateway.gateway.services.blocks
        assert blocks_served is not None
        assert 0 == blocks_served._memory.taken


async def test_a_reader_that_is_too_slow_is_cut_off(tmp_path: Path) -> None:
    async with world(tmp_path) as held:
        path = f"/ipfs/{held.large.root}?format=car"
    settings = {"serve_ipfs": True, "body_idle_s": 0.3, "min_rate": 1 << 30}
    async with running_gateway(tmp_path, **settings) as gateway, connected(gateway.address) as slow:
        await slow.send(request("GET", path))
        await slow.reader.readuntil(b"\r\n\r\n")
        served = gateway.gateway.services.blocks
        assert served is not None
        assert served._memory.taken > 0

        async def is_given_back() -> bool:
            return served._memory.taken == 0

        await eventually(is_given_back, what="its memory")
