"""The clients of a history: what they ask for, over which connections, and what they write down."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from crypto import CryptoError, Identity, intake_identity, new_bare_head, open_file
from storage_gateway.records import INPUT, MINER, OUTPUT, USER, TokenKind

from .chance import draw
from .deeds import Deed, Kind, SlotKey
from .deployment import MEMBERS, OPERATOR_TOKEN, ROUTER, Member
from .faults import Faults
from .http import Answer, Request, read_answer
from .loop import ProcessLoop
from .network import NETWORK_S, BrokenConnectionError, Link
from .node import Node
from .world import Process, World

OPERATOR = Member("operator", "", TokenKind.OPERATOR, None, OPERATOR_TOKEN, ROUTER)
PATIENCE_S = 1.0
SIZES = (0, 1, 2, 100, 65_535, 65_536, 65_537, 131_072, 131_073, 200_000, 330_000)
SIZE_WEIGHTS = (4, 4, 4, 60, 2, 2, 2, 1, 2, 2, 1)
SEALED = "application/age"
PLAIN = "application/octet-stream"


@dataclass(slots=True)
class Clients:
    """All clients of a history, in one process of their own that never fails."""

    world: World
    nodes: list[Node]
    faults: Faults
    in_pieces: bool
    deeds: list[Deed] = field(default_factory=list)
    known: dict[str, SlotKey] = field(default_factory=dict)
    """Names that some answer told, and where they belong."""
    members: list[Member] = field(default_factory=lambda: [*MEMBERS["A"], *MEMBERS["B"]])
    healed: bool = False
    process: Process = field(init=False)
    loop: ProcessLoop = field(init=False)
    _idle: dict[str, Link] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start their process."""
        self.process = Process(self.world, "clients")
        self.loop = ProcessLoop(self.world, self.process)  # type: ignore[abstract]

    async def upload(
        self, member: Member, slot: SlotKey, content: bytes, *, sealed: bool = False
    ) -> Deed:
        """Upload to a slot, sealed to the router beforehand or not."""
        deed = self._begin(Kind.SEALED_UPLOAD if sealed else Kind.UPLOAD, member)
        deed.slot, deed.content = slot, content
        body, kind = (seal_for(slot.session_id, content), SEALED) if sealed else (content, PLAIN)
        path = f"/v1/sessions/{slot.session_id}/tasks/{slot.task_id}/{slot.direction}"
        if member.kind is TokenKind.OPERATOR and slot.miner:
            path += f"?miner={slot.miner}"
        answer = await self._ask(deed, "POST", path, {"Content-Type": kind}, body)
        if answer is not None:
            self._learn(deed, answer)
        return self._end(deed)

    async def fetch(self, member: Member, urn: str, *, sealed: bool) -> Deed:
        """Read an object; what comes sealed is opened with the member's own key."""
        deed = self._begin(Kind.SEALED_FETCH if sealed else Kind.FETCH, member)
        deed.urn = urn
        headers = {"Accept": SEALED if sealed else PLAIN}
        answer = await self._ask(deed, "GET", f"/v1/objects/{quote(urn)}", headers)
        if answer is not None and answer.status == 200:
            deed.content = answer.body
            if sealed:
                try:
                    deed.content = open_file(answer.body, [member.identity])
                except CryptoError as error:
                    deed.code = f"does not open: {type(error).__name__}"
        return self._end(deed)

    async def manifest(self, member: Member, urn: str) -> Deed:
        """Look at a manifest."""
        deed = self._begin(Kind.MANIFEST, member)
        deed.urn = urn
        answer = await self._ask(deed, "GET", f"/v1/objects/{quote(urn)}/manifest", {})
        if answer is not None:
            self._learn(deed, answer)
        return self._end(deed)

    async def erase(self, member: Member, urn: str) -> Deed:
        """Erase an object."""
        deed = self._begin(Kind.ERASE, member)
        deed.urn = urn
        answer = await self._ask(deed, "DELETE", f"/v1/objects/{quote(urn)}", {})
        if answer is not None:
            self._learn(deed, answer)
        return self._end(deed)

    async def list_all(self, member: Member, session_id: str, limit: int) -> Deed:
        """List a session's objects, page after page; pages may come from different gateways."""
        deed = self._begin(Kind.LIST, member)
        deed.slot = SlotKey(session_id, "*", "*", "")
        cursor = ""
        while True:
            path = f"/v1/sessions/{session_id}/objects?limit={limit}{cursor}"
            answer = await self._ask(deed, "GET", path, {})
            if answer is None or answer.status != 200:
                break
            page = answer.document
            for entry in page["objects"]:
                self.known.setdefault(entry["urn"], slot_of(entry))
            deed.listing += tuple(entry["urn"] for entry in page["objects"])
            if page["next"] is None:
                deed.whole_listing = True
                break
            cursor = f"&cursor={page['next']}"
        return self._end(deed)

    async def open_session(self, session_id: str) -> Deed:
        """Open a session with the keys of session A; its tokens are used from then on."""
        deed = self._begin(Kind.OPEN, OPERATOR)
        deed.slot = SlotKey(session_id, "*", "*", "")
        user, *miners = MEMBERS["A"]
        parties = {
            "user": {"recipient": str(user.identity.recipient())},
            "miners": [
                {"id": miner.miner, "recipient": str(miner.identity.recipient())}
                for miner in miners
            ],
        }
        body = json_bytes({"session_id": session_id, "parties": parties})
        headers = {"Content-Type": "application/json"}
        answer = await self._ask(deed, "POST", "/v1/sessions", headers, body)
        if answer is not None and answer.status == 201:
            tokens = answer.document["tokens"]
            for member in (user, *miners):
                token = tokens["miners"][member.miner] if member.miner else tokens["user"]
                self.members.append(_moved(member, session_id, token))
        return self._end(deed)

    def _begin(self, kind: Kind, member: Member) -> Deed:
        deed = Deed(len(self.deeds) + 1, kind, member, self.world.now, after_heal=self.healed)
        self.deeds.append(deed)
        return deed

    def _end(self, deed: Deed) -> Deed:
        deed.ended = self.world.now
        self.world.note(deed.member.name, f"{deed} -> {deed.outcome()}")
        return deed

    def _learn(self, deed: Deed, answer: Answer) -> None:
        """Take names and states from an answer."""
        document = answer.document
        if "urn" not in document:
            return
        deed.answered_urn = document["urn"]
        if "session_id" in document:
            deed.answered_slot = slot_of(document)
            deed.state = document["state"]
        where = deed.answered_slot or deed.slot
        if where is not None:
            self.known.setdefault(document["urn"], where)

    async def _ask(
        self, deed: Deed, method: str, path: str, headers: dict[str, str], body: bytes | None = None
    ) -> Answer | None:
        """Send a request to some gateway; None when no whole answer came."""
        node = self.world.random.choice(self.nodes)
        request = Request(method, path, deed.member.token, f"r{deed.number}", headers, body)
        self.world.note(deed.member.name, f"{deed} to {node.name}")
        patience_s = None
        if self.world.chance(self.faults.impatient_client):
            patience_s = self.world.delay(PATIENCE_S)
        deed.status, deed.code = 0, ""
        try:
            async with self._link(node) as link, asyncio.timeout(patience_s):
                answer = await self._exchange(link, request)
        except (BrokenConnectionError, TimeoutError) as error:
            deed.code = f"({str(error) or 'no patience'})"
            return None
        deed.status, deed.code = answer.status, answer.code
        if answer.headers.get("x-request-id") != request.request_id:
            deed.code = f"answer to another request: {answer.headers.get('x-request-id')}"
        return answer

    async def _exchange(self, link: Link, request: Request) -> Answer:
        link.send(request.head())
        sending = None
        if request.body and self.world.chance(self.faults.slow_client):
            link.slowness_s = self.world.delay(0.2)
            sending = asyncio.create_task(self._send_slowly(link, request.body))
        elif request.body:
            link.send(request.body)
        try:
            return await read_answer(link)
        finally:
            if sending is not None and sending.cancel():
                link.slowness_s = math.inf  # half a body was sent: nothing can follow it

    async def _send_slowly(self, link: Link, body: bytes) -> None:
        size = max(1, len(body) // self.world.random.randint(1, 5))
        for at in range(0, len(body), size):
            await asyncio.sleep(self.world.delay(0.5))
            link.send(body[at : at + size])

    @asynccontextmanager
    async def _link(self, node: Node) -> AsyncIterator[Link]:
        """Connect, or go on with a connection that is idle."""
        link = self._idle.pop(node.name, None)
        if link is None or link.ended or link.server is not node.process or self.healed:
            await asyncio.sleep(self.world.delay(NETWORK_S))
            link = Link(self.world, self.process, node.process, in_pieces=self.in_pieces)
            if not node.accept(link):
                raise BrokenConnectionError("refused")
        if self.world.chance(self.faults.cut):
            link.break_after = int(
                self.world.random.choice((300, 1500, 200_000)) * self.world.random.random()
            )
        try:
            yield link
        except BaseException:
            link.close()
            raise
        if link.slowness_s == 0 and link.break_after is None and self.world.chance(0.5):
            self._idle[node.name] = link
        else:
            link.close()


def slot_of(document: dict[str, Any]) -> SlotKey:
    """Return the slot that an object's document names."""
    return SlotKey(
        document["session_id"],
        document["task_id"],
        document["direction"],
        document["miner"] or "",
    )


def seal_for(session_id: str, content: bytes) -> bytes:
    """Return an age file for the router's recipient of a session, as a stock tool makes it."""
    recipient = intake_of(session_id).recipient()
    head = new_bare_head([recipient], random=draw)
    run = head.sealer.claim(len(content), last=True)
    payload = bytearray(run.sealed_size)
    run.seal_into(content, payload)
    return head.head + bytes(payload)


def intake_of(session_id: str) -> Identity:
    """Return the router's identity for files of a session."""
    return intake_identity(ROUTER, session_id)


def json_bytes(document: object) -> bytes:
    """Return a document as JSON."""
    return json.dumps(document).encode()


def _moved(member: Member, session_id: str, token: str) -> Member:
    return Member(
        f"{member.kind}-{session_id}{(member.miner or '')[-2:]}",
        session_id,
        member.kind,
        member.miner,
        token,
        member.identity,
    )


class Walk:
    """One client's random walk: what it does next is drawn from what it knows by then."""

    def __init__(self, clients: Clients, slots: list[SlotKey]) -> None:
        """``slots`` is what uploads go to: few, so that clients meet."""
        self._clients = clients
        self._world = clients.world
        self._slots = slots
        self._choices: tuple[tuple[int, Callable[[], Any]], ...] = (
            (34, self._upload),
            (10, self._upload_again),
            (24, self._fetch),
            (6, self._manifest),
            (8, self._list),
            (14, self._erase),
            (4, self._open),
        )

    async def walk(self, steps: int) -> None:
        """Do some things, one after the other."""
        choices = [choice for _, choice in self._choices]
        weights = [weight for weight, _ in self._choices]
        for _ in range(steps):
            await asyncio.sleep(self._world.delay(0.3))
            (chosen,) = self._world.random.choices(choices, weights)
            if self._world.chance(self._clients.faults.repeat):
                await asyncio.gather(chosen(), chosen())
            else:
                await chosen()

    def _writer(self, slot: SlotKey) -> Member:
        return writer_of(self._clients, slot, operator=self._world.chance(0.2))

    def _content(self) -> bytes:
        (size,) = self._world.random.choices(SIZES, SIZE_WEIGHTS)
        return self._world.random.randbytes(size)

    async def _upload(self) -> None:
        slot = self._world.random.choice(self._slots)
        sealed = self._world.chance(0.25)
        await self._clients.upload(self._writer(slot), slot, self._content(), sealed=sealed)

    async def _upload_again(self) -> None:
        """Send what was sent before: the answer was lost, or was not to the client's liking."""
        before = [deed for deed in self._clients.deeds if deed.is_upload and deed.status != 201]
        if not before:
            await self._upload()
            return
        deed = self._world.random.choice(before)
        if deed.slot is not None:
            await self._clients.upload(self._writer(deed.slot), deed.slot, deed.content)

    def _some_urn(self) -> str | None:
        known = list(self._clients.known)
        return self._world.random.choice(known) if known else None

    async def _fetch(self) -> None:
        urn = self._some_urn()
        if urn is None:
            await self._upload()
            return
        member = self._world.random.choice(self._clients.members)
        if self._world.chance(0.8):
            session_id = self._clients.known[urn].session_id
            member = next(m for m in self._clients.members if m.session_id == session_id)
        await self._clients.fetch(member, urn, sealed=self._world.chance(0.5))

    async def _manifest(self) -> None:
        urn = self._some_urn()
        if urn is not None:
            await self._clients.manifest(self._world.random.choice(self._clients.members), urn)

    async def _list(self) -> None:
        member = self._world.random.choice(self._clients.members)
        limit = self._world.random.randint(1, 3)
        await self._clients.list_all(member, member.session_id, limit)

    async def _erase(self) -> None:
        urn = self._some_urn()
        if urn is None:
            return
        session_id = self._clients.known[urn].session_id
        user = next(m for m in self._clients.members if m.session_id == session_id)
        await self._clients.erase(self._world.random.choice((user, user, OPERATOR)), urn)

    async def _open(self) -> None:
        session_id = self._world.random.choice(("C", "D"))
        deed = await self._clients.open_session(session_id)
        if deed.status == 201:
            self._slots.append(SlotKey(session_id, "1", INPUT, ""))


def writer_of(clients: Clients, slot: SlotKey, *, operator: bool) -> Member:
    """Return who writes to a slot."""
    if operator:
        return OPERATOR
    for member in clients.members:
        if member.session_id != slot.session_id:
            continue
        if (member.kind.value, member.miner or "") == ((MINER if slot.miner else USER), slot.miner):
            return member
    return OPERATOR


def slots_of(session_id: str, tasks: int) -> list[SlotKey]:
    """Return some slots of a session that begins with every history."""
    found = []
    for task in range(1, tasks + 1):
        found.append(SlotKey(session_id, str(task), INPUT, ""))
        found.append(SlotKey(session_id, str(task), OUTPUT, MEMBERS[session_id][1].miner or ""))
    return found
