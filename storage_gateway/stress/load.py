"""Clients of a run: they send what they are told to and note what came of it. No judgement."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

import aiohttp

from crypto import Identity, X25519Identity
from retention import FOREVER
from storage_gateway.late import CommitPending
from storage_gateway.records import INPUT
from storage_gateway.sessions import MinerEntry, Sessions

from .bodies import PIECE_SIZE, Body
from .record import OK, Record

REQUEST_S_MAX = 60.0
BYTES_PER_S_MIN = 1_000_000
"""A request may take so much longer for its body."""
BROKEN, TIMED_OUT = "connection_broken", "timed_out"
"""Outcomes without an answer."""
SENT_WHOLE_MAX = 1 << 20
Midway = Callable[[], Awaitable[object]]
MINER = "0x00000000000000000000000000000000000000a1"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to: ``outcome`` is `OK`, the problem's code, or one of the two above."""

    outcome: str
    status: int
    seconds: float
    document: dict[str, Any] = field(default_factory=dict)
    digest: bytes = b""
    size: int = 0
    content: bytes = field(default=b"", repr=False)
    """Of sealed files that were asked to be kept."""

    @property
    def urn(self) -> str:
        """The URN that was answered."""
        return str(self.document.get("urn", ""))


@dataclass(frozen=True, slots=True)
class Member:
    """A session of a run, with what its user and its one miner hold."""

    session_id: str
    user: Identity = field(repr=False)
    miner: Identity = field(repr=False)
    user_token: str = field(repr=False)
    miner_token: str = field(repr=False)


async def open_member(sessions: Sessions, session_id: str, *, policy: str = FOREVER.name) -> Member:
    """Open a session with fresh identities; what the deployment promises others binds no run."""
    user, miner = X25519Identity.generate(), X25519Identity.generate()
    opened = await sessions.open(
        session_id=session_id,
        custody="router",
        user_recipient=str(user.recipient()),
        miners=[MinerEntry(MINER, str(miner.recipient()))],
        retention=policy,
    )
    return Member(session_id, user, miner, opened.user_token, opened.miner_tokens[MINER])


class Customer:
    """A member's clients at one gateway."""

    def __init__(
        self, http: aiohttp.ClientSession, url: Callable[[], str], member: Member, record: Record
    ) -> None:
        """``url`` is asked before each request: a gateway may come back on another port."""
        self._http = http
        self._url = url
        self.member = member
        self.record = record

    async def upload(
        self,
        task_id: str,
        body: Body,
        *,
        direction: str = INPUT,
        source: AsyncIterable[bytes] | None = None,
        sealed: bytes | None = None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Upload a body, as it is, or as ``source`` sends it while its whole size is announced, or
        as the file that it was ``sealed`` into before; of that ``source`` may be what is sent, too.
        """
        timeout_s = timeout_s or REQUEST_S_MAX + body.size / BYTES_PER_S_MIN
        token = self.member.user_token if direction == INPUT else self.member.miner_token
        size = body.size if sealed is None else len(sealed)
        data: bytes | AsyncIterable[bytes]
        if source is not None:
            data = source
        elif sealed is not None:
            data = _in_turns(sealed[at : at + PIECE_SIZE] for at in range(0, size, PIECE_SIZE))
        elif body.size <= SENT_WHOLE_MAX:
            data = b"".join(body.pieces())
        else:
            data = _in_turns(body.pieces())
        path = f"/v1/sessions/{self.member.session_id}/tasks/{task_id}/{direction}"
        content_type = "application/octet-stream" if sealed is None else "application/age"
        headers = {"Content-Length": str(size), "Content-Type": content_type}
        return await self._ask(
            "upload", "POST", path, token, headers=headers, data=data, timeout_s=timeout_s
        )

    async def fetch(
        self,
        urn: str,
        *,
        size: int,
        sealed: bool = False,
        midway: Midway | None = None,
        timeout_s: float | None = None,
        as_miner: bool = False,
        held: Identity | None = None,
    ) -> Answer:
        """Read an object of about a size to its end: the plaintext's digest, or the sealed file.

        ``midway`` is waited for once the first bytes have come, before more are taken. ``held`` is
        the identity that the reader says to have.
        """
        told = {} if held is None else {"Held-Recipient": str(held.recipient())}
        accept = "application/age" if sealed else "application/octet-stream"
        return await self._ask(
            "fetch_sealed" if sealed else "fetch",
            "GET",
            f"/v1/objects/{urn}",
            self.member.miner_token if as_miner else self.member.user_token,
            headers={"Accept": accept} | told,
            keep=sealed,
            midway=midway,
            timeout_s=timeout_s or REQUEST_S_MAX + size / BYTES_PER_S_MIN,
        )

    async def listed(self) -> tuple[str, list[str]]:
        """Return the URNs of the session's objects, and what the last page of them came to."""
        urns: list[str] = []
        path, cursor = f"/v1/sessions/{self.member.session_id}/objects", ""
        while True:
            answer = await self._ask(
                "list", "GET", f"{path}{cursor}", self.member.user_token, keep=True
            )
            if answer.outcome != OK:
                return answer.outcome, urns
            page = json.loads(answer.content)
            urns += [entry["urn"] for entry in page["objects"]]
            if page["next"] is None:
                return OK, urns
            cursor = f"?cursor={page['next']}"

    async def erase(self, urn: str) -> Answer:
        """Erase an object."""
        return await self._ask("erase", "DELETE", f"/v1/objects/{urn}", self.member.user_token)

    async def ask(
        self,
        operation: str,
        method: str,
        path: str,
        token: str,
        document: dict[str, Any] | None = None,
    ) -> Answer:
        """Send a JSON document, if one is given; the answer's is taken in."""
        data = None if document is None else json.dumps(document).encode()
        headers = None if data is None else {"Content-Type": "application/json"}
        answer = await self._ask(
            operation, method, path, token, headers=headers, data=data, keep=True
        )
        if method == "GET" and answer.outcome == OK:
            return replace(answer, document=json.loads(answer.content))
        return answer

    async def _ask(
        self,
        operation: str,
        method: str,
        path: str,
        token: str,
        *,
        headers: dict[str, str] | None = None,
        data: bytes | AsyncIterable[bytes] | None = None,
        keep: bool = False,
        midway: Midway | None = None,
        timeout_s: float = REQUEST_S_MAX,
    ) -> Answer:
        began = time.perf_counter()
        status, document, digest, size, content = 0, {}, b"", 0, b""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._http.request(
                    method,
                    f"{self._url()}{path}",
                    headers={"Authorization": f"Bearer {token}"} | (headers or {}),
                    data=data,
                ) as answer,
            ):
                status = answer.status
                if answer.ok and method == "GET":
                    digest, size, content = await _taken_in(answer, keep=keep, midway=midway)
                else:
                    document = await answer.json(content_type=None)
                outcome = OK if answer.ok else str(document.get("code", status))
                if operation == "upload" and status == HTTPStatus.ACCEPTED:
                    outcome = CommitPending.code  # what was not committed is not stored
        except TimeoutError:
            outcome = TIMED_OUT
        except (aiohttp.ClientError, ConnectionError, ValueError):
            outcome = BROKEN
        seconds = time.perf_counter() - began
        self.record.note(operation, outcome, seconds)
        return Answer(outcome, status, seconds, document, digest, size, content)


async def _taken_in(
    answer: aiohttp.ClientResponse, *, keep: bool, midway: Midway | None
) -> tuple[bytes, int, bytes]:
    digest, size, kept = hashlib.sha256(), 0, bytearray()
    async for piece in answer.content.iter_any():
        if midway is not None and not size:
            await midway()
        digest.update(piece)
        size += len(piece)
        if keep:
            kept += piece
    return digest.digest(), size, bytes(kept)


async def _in_turns(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
        await asyncio.sleep(0)  # others have a turn
