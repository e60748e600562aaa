"""How each error that the gateway can answer with is provoked over a socket.

A table by class: an entry makes one request, or a few, on a gateway with small limits, and returns
the answer that must carry the error's code. `test_problems` walks it; nothing is judged here.
"""

import asyncio
import errno
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import Connection, select, update

from storage_gateway import block_errors, errors
from storage_gateway.api.block_handlers import PROBE
from storage_gateway.backends.fs import RealFs
from storage_gateway.catalog.objects import Ownership
from storage_gateway.catalog.outcomes import begin_outcome
from storage_gateway.catalog.sessions import NewToken, insert_token
from storage_gateway.catalog.tables import intents, key_versions, sessions, slots
from storage_gateway.catalog.work import end_instance
from storage_gateway.errors import GatewayError
from storage_gateway.late import CommitPending
from storage_gateway.readiness import Readiness
from storage_gateway.records import Slot, TokenKind
from storage_gateway.stress.errors import BackendNeeded, StressBusy, StressDisabled
from storage_gateway.tokens import token_digest
from storage_gateway.upkeep import NoSuchPass
from tests.databases import databases
from tests.gateway import OpenSession, RunningGateway, eventually, payload_keys
from tests.http.age_files import age_file, flipped, stanza
from tests.http.raw import CHUNKED, EXPECT, Answer, chunk, connected, exchange, request
from tests.http.steps import LEAF, fetch, made_bytes, upload, upload_sealed, uploaded
from tests.stress.runs import ask, ended
from tests.stress.runs import start as start_run
from urn import cid_of, mint

BODY_BYTES_MAX = 3 * LEAF

ABSENT = "urn:blob:v4:" + "a" * 32
JSON_TYPE = ("Content-Type", "application/json")
NO_BLOCK = cid_of(b"nobody has this")
UNEXPECTED = "a sentence with sg_user_secret in it"

Provoke = Callable[[RunningGateway, OpenSession], Awaitable[Answer]]
TABLE: dict[type[GatewayError], Provoke] = {}
LIMITS: dict[type[GatewayError], dict[str, object]] = {errors.BodyTimeout: {"body_idle_s": 0.3}}
"""What only one provocation may be bound by: others hold an upload open for as long as it takes."""


def provokes(kind: type[GatewayError]) -> Callable[[Provoke], Provoke]:
    """Enter a function into the table."""

    def enter(function: Provoke) -> Provoke:
        assert kind not in TABLE
        TABLE[kind] = function
        return function

    return enter


# The caller must change the request.


@provokes(errors.InvalidRequest)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await _post_session(gateway, b"{")


@provokes(errors.MalformedHTTP)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await exchange(gateway.address, b"NONSENSE\r\n\r\n")


@provokes(errors.InvalidField)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    return await upload(gateway, session.path("a-b"), session.user_token, b"x")


@provokes(errors.InvalidURN)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    return await fetch(gateway, "nonsense", session.user_token)


@provokes(errors.UnsupportedEncoding)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    headers = [("Content-Encoding", "gzip")]
    return await upload(gateway, session.path("t1"), session.user_token, b"x", headers=headers)


@provokes(errors.UnsupportedMediaType)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    data = request("POST", "/v1/sessions", gateway.operator_token, body=b"{}")
    return await exchange(gateway.address, data)


@provokes(errors.NotAcceptable)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    headers = [("Accept", "text/html")]
    return await fetch(gateway, document["urn"], session.user_token, headers=headers)


@provokes(block_errors.InvalidCID)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await exchange(gateway.address, request("GET", "/ipfs/nonsense?format=raw"))


@provokes(block_errors.FormatNotServed)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    headers = [("Accept", "text/html")]
    return await exchange(gateway.address, request("GET", f"/ipfs/{PROBE}", headers=headers))


@provokes(block_errors.UnknownBlock)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await exchange(gateway.address, request("GET", f"/ipfs/{NO_BLOCK}?format=raw"))


@provokes(block_errors.NotCached)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    path, headers = f"/ipfs/{NO_BLOCK}?format=raw", [("Cache-Control", "only-if-cached")]
    return await exchange(gateway.address, request("GET", path, headers=headers))


@provokes(block_errors.RangeNotSatisfiable)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    path, headers = f"/ipfs/{document['cid']}?format=raw", [("Range", "bytes=17-")]
    return await exchange(gateway.address, request("GET", path, headers=headers))


@provokes(errors.Unauthenticated)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await fetch(gateway, ABSENT, "nobody")


@provokes(errors.TokenExpired)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    stored = NewToken(token_digest("old"), TokenKind.USER, None)
    await gateway.catalog.run(lambda c: insert_token(c, stored, session_id="101", lifetime_s=-1.0))
    return await fetch(gateway, ABSENT, "old")


@provokes(errors.Forbidden)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await fetch(gateway, ABSENT, gateway.operator_token)


@provokes(errors.NotFound)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    return await fetch(gateway, ABSENT, session.user_token)


@provokes(errors.UnknownSession)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    path = "/v1/sessions/nobody"
    return await exchange(gateway.address, request("GET", path, gateway.operator_token))


@provokes(errors.ForeignName)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    return await fetch(gateway, "urn:blob:v1:s3:aws:bucket:file", session.user_token)


@provokes(errors.MethodNotAllowed)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await exchange(gateway.address, request("PUT", "/healthz"))


@provokes(errors.Erased)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    await fetch(gateway, document["urn"], session.user_token, method="DELETE")
    return await fetch(gateway, document["urn"], session.user_token)


@provokes(errors.SlotBusy)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    async with connected(gateway.address) as connection:
        headers = [("Content-Length", str(2 * LEAF))]
        head = request("POST", session.path("t1"), session.user_token, headers=headers)
        await connection.send(head + made_bytes(LEAF + 1))
        await eventually(lambda: payload_keys(gateway.catalog, gateway.store))
        return await upload(gateway, session.path("t1"), session.user_token, b"x")


@provokes(errors.SlotTaken)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    return await upload(gateway, session.path("t1"), session.user_token, b"y")


@provokes(errors.SessionExists)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    user = {"recipient": str(session.user.recipient())}
    document = {"session_id": "101", "parties": {"user": user}}
    return await _post_session(gateway, json.dumps(document).encode())


@provokes(StressDisabled)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    gateway.gateway.services.stress = None
    return await exchange(gateway.address, request("GET", "/v1/stress", gateway.operator_token))


@provokes(BackendNeeded)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    return await ask(gateway, "POST", "/v1/stress/ipfs-gone")


@provokes(NoSuchPass)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    path = "/v1/admin/passes/nothing"
    return await exchange(gateway.address, request("POST", path, gateway.operator_token))


@provokes(StressBusy)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    run = await start_run(gateway, "tiny-objects")
    answer = await ask(gateway, "POST", "/v1/stress/tiny-objects")
    await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
    await ended(gateway, run["id"])
    return answer


@provokes(errors.CIDSuperseded)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    one = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    other = await uploaded(gateway, session.path("t2"), session.user_token, b"x")
    return await fetch(gateway, f"{one['urn']}?=cid={other['cid']}", session.user_token)


@provokes(errors.FileKeyReused)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    sealed = age_file(b"x", [session.router_recipient])
    await upload_sealed(gateway, session, "t1", sealed)
    return await upload_sealed(gateway, session, "t2", sealed)


@provokes(errors.BodyTooLarge)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    return await upload(gateway, session.path("t1"), session.user_token, bytes(BODY_BYTES_MAX + 1))


@provokes(errors.BodyIncomplete)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    async with connected(gateway.address) as connection:
        headers = [CHUNKED, EXPECT]
        await connection.send(
            request("POST", session.path("t1"), session.user_token, headers=headers)
        )
        assert 100 == (await connection.answer()).status
        await connection.send(chunk(b"x") + b"nonsense\r\n")
        return await connection.answer()


@provokes(errors.BodyTimeout)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    headers = [("Content-Length", "1")]
    data = request("POST", session.path("t1"), session.user_token, headers=headers)
    return await exchange(gateway.address, data)


# A sealed upload that is not acceptable.


@provokes(errors.EnvelopeRefused)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    return await upload_sealed(gateway, session, "t1", b"no age file")


@provokes(errors.TooManyStanzas)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    sealed = age_file(b"x", [session.router_recipient] * 33)
    return await upload_sealed(gateway, session, "t1", sealed)


@provokes(errors.HeaderTooLarge)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    extra = [stanza("grease", "a" * 70_000)]
    sealed = age_file(b"x", [session.router_recipient], extra=extra)
    return await upload_sealed(gateway, session, "t1", sealed)


@provokes(errors.WrongClass)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    extra = [stanza("mlkem768x25519", "x", body=bytes(32))]
    sealed = age_file(b"x", [session.router_recipient], extra=extra)
    return await upload_sealed(gateway, session, "t1", sealed)


@provokes(errors.NotForRouter)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    sealed = age_file(b"x", [str(session.user.recipient())])
    return await upload_sealed(gateway, session, "t1", sealed)


@provokes(errors.ForeignContext)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    extra = [stanza("storage-gateway/context-v1", body=bytes(32))]
    sealed = age_file(b"x", [session.router_recipient], extra=extra)
    return await upload_sealed(gateway, session, "t1", sealed)


@provokes(errors.PayloadRefused)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    sealed = flipped(age_file(b"x", [session.router_recipient]), -1)
    return await upload_sealed(gateway, session, "t1", sealed)


# The service is at fault for now.


@provokes(errors.Draining)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    gateway.gateway.services.draining = True
    return await exchange(gateway.address, request("GET", "/readyz"))


@provokes(errors.Busy)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    memory = gateway.gateway.services.uploads._memory
    async with memory.admit(gateway.gateway.services.config.write_memory_bytes):
        return await upload(gateway, session.path("t1"), session.user_token, b"x")


@provokes(errors.CatalogUnavailable)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    await asyncio.to_thread(
        databases.query, gateway.data_dir, "ALTER TABLE tokens RENAME TO hidden"
    )
    try:
        return await fetch(gateway, ABSENT, session.user_token)
    finally:
        await asyncio.to_thread(
            databases.query, gateway.data_dir, "ALTER TABLE hidden RENAME TO tokens"
        )


@provokes(errors.BackendUnavailable)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    store = gateway.data_dir / "store"
    away = store.rename(gateway.data_dir / "away")
    try:
        return await fetch(gateway, document["urn"], session.user_token)
    finally:
        away.rename(store)


@provokes(errors.PlacementImpossible)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    wanting = update(sessions).values(backends=["gone"])
    await gateway.catalog.run(lambda c: c.execute(wanting))
    return await upload(gateway, session.path("t1"), session.user_token, b"x")


class _FullFs(RealFs):
    """A disk without room for data; names can still be made and removed."""

    def write_at(self, descriptor: int, data: memoryview, offset: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")


@provokes(errors.StorageFull)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    disk = gateway.store.disk
    disk._fs = _FullFs()
    try:
        return await upload(gateway, session.path("t1"), session.user_token, bytes(2 * LEAF))
    finally:
        disk._fs = RealFs()


@provokes(errors.IntentLost)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    own = gateway.gateway._instance.instance_id
    await gateway.catalog.run(lambda c: end_instance(c, own))
    return await upload(gateway, session.path("t1"), session.user_token, b"x")


@provokes(CommitPending)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    async with connected(gateway.address) as connection:
        headers = [("Content-Length", str(2 * LEAF))]
        head = request("POST", session.path("t1"), session.user_token, headers=headers)
        await connection.send(head + made_bytes(LEAF + 1))
        await eventually(lambda: payload_keys(gateway.catalog, gateway.store))
        urn = mint(await gateway.catalog.run(_answer_early)).urn
        return await fetch(gateway, urn, session.user_token)


def _answer_early(connection: Connection) -> str:
    """Enter what is under way as answered with 202, as only several stores can make it."""
    intent = connection.execute(select(intents)).one()
    slot = connection.execute(select(slots)).one()
    owner = Ownership(intent.payload_id, intent.instance_id, intent.fence)
    begin_outcome(
        connection,
        owner,
        object_id=intent.object_id,
        slot=Slot(slot.session_id, slot.task_id, slot.direction, None),
        within_s=60,
    )
    return str(intent.object_id)


@provokes(errors.StaleParties)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    async with connected(gateway.address) as connection:
        headers = [("Content-Length", str(2 * LEAF))]
        head = request("POST", session.path("t1"), session.user_token, headers=headers)
        await connection.send(head + made_bytes(2 * LEAF)[:-1])
        await eventually(lambda: payload_keys(gateway.catalog, gateway.store))
        await gateway.catalog.run(
            lambda c: c.execute(update(key_versions).values(state="retiring"))
        )
        await connection.send(b"x")
        return await connection.answer()


@provokes(errors.BlobMissing)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    await _file_of_payload(gateway, Path.unlink)
    return await fetch(gateway, document["urn"], session.user_token)


@provokes(errors.BlobCorrupt)
async def _(gateway: RunningGateway, session: OpenSession) -> Answer:
    document = await uploaded(gateway, session.path("t1"), session.user_token, b"x")
    await _file_of_payload(gateway, lambda file: file.write_bytes(b"something else"))
    return await fetch(gateway, document["urn"], session.user_token)


@provokes(errors.InternalError)
async def _(gateway: RunningGateway, _session: OpenSession) -> Answer:
    async def fail() -> Readiness:
        raise RuntimeError(UNEXPECTED)

    gateway.gateway.services.check_ready = fail
    return await exchange(gateway.address, request("GET", "/readyz"))


async def _post_session(gateway: RunningGateway, body: bytes) -> Answer:
    token = gateway.operator_token
    data = request("POST", "/v1/sessions", token, headers=[JSON_TYPE], body=body)
    return await exchange(gateway.address, data)


async def _file_of_payload(gateway: RunningGateway, act: Callable[[Path], object]) -> None:
    (key,) = await payload_keys(gateway.catalog, gateway.store)
    act(gateway.data_dir / "store" / key)
