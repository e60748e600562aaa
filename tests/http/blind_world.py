"""Steps of sessions whose parties seal and open: reservations, uploads, headers, new keys.

What is sealed here is made by `crypto` alone, as any client may; nothing is judged.
"""

import base64
import json
from dataclasses import dataclass, field
from typing import Any

from crypto import (
    Context,
    Envelope,
    Identity,
    Meta,
    X25519Identity,
    parse_context,
    parse_recipient,
    rewrap,
    seal,
)
from storage_gateway.client import Client
from tests.gateway import MINER, OTHER_MINER, GatewayProcess, RunningGateway
from tests.http.raw import SEALED, Answer, Headers, exchange, request

JSON = ("Content-Type", "application/json")
AnyGateway = RunningGateway | GatewayProcess


@dataclass(slots=True)
class BlindSession:
    """A session of blind custody, with what each of its parties holds."""

    gateway: AnyGateway = field(repr=False)
    session_id: str
    tokens: dict[str, str] = field(repr=False)
    """By role, or a miner's address."""
    identities: dict[str, X25519Identity] = field(repr=False)

    @property
    def path(self) -> str:
        return f"/v1/sessions/{self.session_id}"

    def slot(self, task_id: str, direction: str = "input") -> str:
        return f"{self.path}/tasks/{task_id}/{direction}"

    def writer(self, direction: str) -> str:
        return "user" if direction == "input" else MINER

    async def ask(
        self,
        method: str,
        path: str,
        who: str = "user",
        *,
        headers: Headers = (),
        body: bytes | None = None,
    ) -> Answer:
        data = request(method, path, self.tokens[who], headers=headers, body=body)
        return await exchange(self.gateway.address, data)

    async def post(self, path: str, document: object, who: str = "user") -> Answer:
        body = json.dumps(document).encode()
        return await self.ask("POST", path, who, headers=[JSON], body=body)

    async def reserve(self, task_id: str, direction: str = "input") -> dict[str, Any]:
        path = f"{self.slot(task_id, direction)}/reservations"
        answer = await self.ask("POST", path, self.writer(direction), body=b"")
        assert 201 == answer.status, answer
        return answer.json()

    async def send(
        self, task_id: str, direction: str, reservation: object, sealed: bytes
    ) -> Answer:
        path = f"{self.slot(task_id, direction)}?reservation={reservation}"
        return await self.ask("POST", path, self.writer(direction), headers=[SEALED], body=sealed)

    async def put(self, task_id: str, plaintext: bytes, direction: str = "input") -> dict[str, Any]:
        """Reserve, seal, send; return the answer's document."""
        reservation = await self.reserve(task_id, direction)
        envelope = sealed_for(reservation, plaintext)
        data = envelope.head + envelope.payload
        answer = await self.send(task_id, direction, reservation["urn"], data)
        assert 201 == answer.status, answer
        return answer.json()

    async def get(self, urn: str, who: str = "user", part: str = "", **asked: Any) -> Answer:  # noqa: ANN401 - passed on
        return await self.ask("GET", f"/v1/objects/{urn}{part}", who, **asked)

    async def patch(
        self,
        urn: str,
        generation: int | str | None,
        head: bytes,
        who: str = "user",
        query: str = "",
    ) -> Answer:
        etag = f'"g{generation}"' if isinstance(generation, int) else generation
        headers = [] if etag is None else [("If-Match", etag)]
        path = f"/v1/objects/{urn}/header{query}"
        return await self.ask("PATCH", path, who, headers=headers, body=head)

    async def confirm(self, urn: str, generation: int, who: str) -> Answer:
        path = f"/v1/objects/{urn}/header/confirmations"
        return await self.post(path, {"generation": generation}, who)

    async def rotate(self, who: str = "user") -> X25519Identity:
        """Register a new key of a party; return the identity that it had before."""
        before, after = self.identities[who], X25519Identity.generate()
        document: dict[str, Any] = {"party": who, "recipient": str(after.recipient())}
        if who.startswith("0x"):
            document |= {"party": "miner", "miner": who}
        answer = await self.post(f"{self.path}/keys", document, who)
        assert 201 == answer.status, answer
        self.identities[who] = after
        return before

    async def manifest(self, urn: str) -> dict[str, Any]:
        return (await self.get(urn, part="/manifest")).json()

    async def rewrapped(self, urn: str, identity: Identity) -> tuple[int, bytes]:
        """Return the generation of an object's head, and what is to take its place."""
        manifest = await self.manifest(urn)
        head = (await self.get(urn, part="/header")).body
        return manifest["generation"], rewrap_as_told(manifest, head, identity)

    async def rewrap(self, urn: str, identity: Identity) -> Answer:
        generation, head = await self.rewrapped(urn, identity)
        return await self.patch(urn, generation, head)


def rewrap_as_told(manifest: dict[str, Any], head: bytes, identity: Identity) -> bytes:
    current = [parse_recipient(party["recipient"]) for party in manifest["wrapped_for"]]
    wanted = [parse_recipient(party["recipient"]) for party in manifest["rewrap_for"]]
    return rewrap(head, [identity], current=current, wanted=wanted)


def context_of(reservation: dict[str, Any]) -> Context:
    return parse_context(base64.b64decode(reservation["context"], validate=True))


def sealed_for(reservation: dict[str, Any], plaintext: bytes, meta: Meta | None = None) -> Envelope:
    recipients = [parse_recipient(party["recipient"]) for party in reservation["recipients"]]
    return seal(plaintext, recipients, context=context_of(reservation), meta=meta)


async def open_blind(gateway: AnyGateway, session_id: str | None = None) -> BlindSession:
    """Open a session with fresh identities of a user, a router and two miners."""
    names = ("user", "router", MINER, OTHER_MINER)
    identities = {name: X25519Identity.generate() for name in names}
    recipients = {name: str(identity.recipient()) for name, identity in identities.items()}
    document: dict[str, Any] = {
        "custody": "blind",
        "parties": {
            "user": {"recipient": recipients["user"]},
            "router": {"recipient": recipients["router"]},
            "miners": [{"id": m, "recipient": recipients[m]} for m in (MINER, OTHER_MINER)],
        },
    }
    if session_id is not None:
        document["session_id"] = session_id
    async with Client(gateway.url, gateway.operator_token) as client:
        answer = await client.open_session(document)
    tokens = {"user": answer["tokens"]["user"], "router": answer["tokens"]["router"]}
    tokens |= answer["tokens"]["miners"] | {"operator": gateway.operator_token}
    return BlindSession(gateway, answer["session_id"], tokens, identities)
