"""A client of the gateway: streams files up and down, turns problems into one exception."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import quote

import aiohttp

from .errors import InvalidField, SlotBusy, SlotTaken
from .ids import check_scope_id

PIECE_SIZE = 1 << 20
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 120.0
POLL_S_MIN, POLL_S_MAX = 0.2, 5.0
"""Between two looks at a pending upload, from the first on; each wait is twice the last."""

SERVER_ERRORS = 500
MEMBERS_OF_ALL = frozenset({"session_id"})
"""Every document about sessions and objects has these."""

OnBytes = Callable[[int], None]
OnPending = Callable[[dict[str, Any]], None]
"""Told once, with the gateway's document, that an upload waits for its write quorum."""


class Source(Protocol):
    """What is read from: a file, or anything that makes bytes."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, none at the end."""


class Target(Protocol):
    """What is written to."""

    def write(self, data: bytes, /) -> object:
        """Take bytes."""


class ClientError(Exception):
    """The gateway refused or failed; ``problem`` is its problem document (RFC 9457)."""

    def __init__(self, problem: dict[str, Any]) -> None:
        """Keep the document; its detail and remedy are the text."""
        detail = problem.get("detail", problem.get("title", "unknown problem"))
        super().__init__(f"{detail}. {problem.get('remedy', '')}".strip())
        self.problem = problem

    @property
    def code(self) -> str:
        """The problem's stable code."""
        return str(self.problem.get("code", "unknown"))


class Client:
    """Talks to one gateway with one token. An async context manager."""

    def __init__(self, url: str, token: str) -> None:
        """``url`` is the base URL; the token is sent as a bearer token and shown nowhere."""
        self._url = url.rstrip("/")
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {token}"},
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=READ_TIMEOUT_S
            ),
        )

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        await self._session.close()

    async def open_session(self, document: dict[str, Any]) -> dict[str, Any]:
        """Open a session (operator).

        Raises:
            ClientError: the gateway refused.

        """
        return await self._json("POST", "/v1/sessions", json=document)

    async def run_pass(self, name: str, seconds: float, confirm: int = 0) -> dict[str, Any]:
        """Run a pass for so long at most (operator); return what it did. ``confirm`` lets gc delete
        so many payloads of a store.

        Raises:
            ClientError: the gateway refused.

        """
        path = f"/v1/admin/passes/{quote(name, safe='')}"
        wish = {"seconds": seconds} | ({"confirm": confirm} if confirm else {})
        return await self._json("POST", path, json=wish, members={"ended"})

    async def upload(
        self,
        session_id: str,
        task_id: str,
        direction: str,
        source: Source,
        *,
        content_type: str = "application/octet-stream",
        filename: str | None = None,
        miner: str | None = None,
        reservation: str | None = None,
        lifetime_s: int | None = None,
        on_bytes: OnBytes = lambda _count: None,
        on_pending: OnPending = lambda _document: None,
    ) -> dict[str, Any]:
        """Upload a file-like object; return the answer with its URN, once it is committed.

        An upload that holds the slot and waits for its write quorum is waited for, and not this
        one sent: it may be the same, whose answer was lost. ``on_pending`` then finds ``earlier``
        in the document. ``reservation`` is the URN that a file of blind custody was sealed for;
        ``lifetime_s`` how long it is to live, from its commit, None: as the session's terms say.

        Raises:
            ClientError: the gateway refused, or the upload failed later; ``undecided`` when it
                did not say in time what became of it; ``slot_taken``, with the URN, also when one
                that was waited for is committed.

        """
        path = path_of_slot(session_id, task_id, direction)
        named = {"filename": filename, "miner": miner, "reservation": reservation}
        query = {name: value for name, value in named.items() if value is not None}
        headers = {"Content-Type": content_type, "Expect": "100-continue"}
        if lifetime_s is not None:
            headers["Object-Lifetime"] = str(lifetime_s)
        try:
            answer = await self._json(
                "POST",
                path,
                params=query,
                data=_pieces(source, on_bytes),
                headers=headers,
            )
        except ClientError as busy:
            if busy.code != SlotBusy.code or "status_url" not in busy.problem:
                raise
            raise await self._taken(str(busy.problem["status_url"]), on_pending) from None
        if answer.get("state") != "pending":
            return answer
        on_pending(answer)
        return await self._decided(answer)

    async def _taken(self, status_url: str, on_pending: OnPending) -> ClientError:
        """Return what to raise once an earlier upload has taken the slot.

        Raises:
            ClientError: it has not: it failed, or was not decided in time.

        """
        found = await self._json("GET", status_url, members=MEMBERS_OF_ALL | {"state"})
        if found["state"] == "pending":
            on_pending(found | {"earlier": True})
        committed = await self._decided(found)
        return ClientError(
            {
                "code": SlotTaken.code,
                "detail": "the slot holds an object that was sent before",
                "remedy": SlotTaken.remedy,
                "urn": committed["urn"],
            }
        )

    async def _decided(self, pending: dict[str, Any]) -> dict[str, Any]:
        """Return what became of an upload that was answered with 202, if it was committed."""
        path = str(pending["status_url"])
        clock = asyncio.get_running_loop().time
        until = clock() + float(pending["decided_within_s"]) + POLL_S_MAX
        wait_s = POLL_S_MIN
        while clock() < until:
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, POLL_S_MAX)
            try:
                found = await self._json("GET", path, members=MEMBERS_OF_ALL | {"state"})
            except (aiohttp.ClientError, TimeoutError):
                continue  # it may be starting anew; what became of the upload it knows even then
            except ClientError as error:
                # It may be starting anew, behind a proxy that says so in words of its own.
                status = int(error.problem.get("status") or 0)
                if status == HTTPStatus.TOO_MANY_REQUESTS or status >= SERVER_ERRORS:
                    continue
                raise
            if found["state"] == "failed":
                detail = "the upload failed after it was sent"
                raise ClientError({"detail": detail} | found)
            if found["state"] != "pending":
                return found
        raise ClientError(
            {
                "code": "undecided",
                "detail": f"the gateway did not say in time what became of {pending['urn']}",
                "remedy": f"Ask it later: GET {path}.",
            }
        )

    async def download(
        self,
        urn: str,
        target: Target,
        *,
        plaintext: bool = False,
        held: str | None = None,
        on_bytes: OnBytes,
    ) -> int:
        """Write an object to ``target``: the sealed age file, or the plaintext; return its size.

        ``held`` is the recipient whose identity is to open it: the gateway then refuses a file that
        it does not open.

        Raises:
            ClientError: the gateway refused, or the connection broke before the end.

        """
        headers = {"Accept": "application/octet-stream" if plaintext else "application/age"}
        if held is not None:
            headers["Held-Recipient"] = held
        size = 0
        async with self._session.get(f"{self._url}{path_of(urn)}", headers=headers) as answer:
            await _raise_for_problem(answer)
            try:
                async for piece in answer.content.iter_chunked(PIECE_SIZE):
                    await asyncio.to_thread(target.write, piece)
                    size += len(piece)
                    on_bytes(len(piece))
            except aiohttp.ClientError as error:
                raise ClientError(
                    {
                        "code": "download_broken",
                        "detail": f"the connection broke after {size} bytes",
                        "remedy": "Fetch the object again.",
                    }
                ) from error
        return size

    async def manifest(self, urn: str) -> dict[str, Any]:
        """Return an object's manifest."""
        return await self._json("GET", f"{path_of(urn)}/manifest")

    async def erase(self, urn: str) -> dict[str, Any]:
        """Erase an object."""
        return await self._json("DELETE", path_of(urn))

    async def ask(
        self,
        method: str,
        path: str,
        document: object = None,
        *,
        members: AbstractSet[str],
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> dict[str, Any]:
        """Ask any endpoint that answers JSON; the answer has at least ``members``. What is sent is
        a document, or a ``body`` as it is.

        Raises:
            ClientError: the gateway refused.

        """
        return await self._json(
            method, path, json=document, headers=headers, data=body, members=members
        )

    async def fetch(self, path: str) -> bytes:
        """Return the few bytes of an answer as they are.

        Raises:
            ClientError: the gateway refused.

        """
        async with self._session.get(f"{self._url}{path}") as answer:
            await _raise_for_problem(answer)
            return await answer.read()

    async def stress(
        self, method: str, path: str, parameters: object = None, *, members: AbstractSet[str]
    ) -> dict[str, Any]:
        """Ask a stress endpoint (operator); the answer has at least ``members``. docs/stress.md.

        Raises:
            ClientError: the gateway refused.

        """
        return await self.ask(method, f"/v1/stress{path}", parameters, members=members)

    async def _json(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        json: object = None,
        data: AsyncIterator[bytes] | bytes | None = None,
        members: AbstractSet[str] = MEMBERS_OF_ALL,
    ) -> dict[str, Any]:
        async with self._session.request(
            method, f"{self._url}{path}", params=params, headers=headers, json=json, data=data
        ) as answer:
            await _raise_for_problem(answer)
            try:
                document = await answer.json()
            except (ValueError, aiohttp.ContentTypeError):
                document = None
            if isinstance(document, dict) and document.keys() >= members:
                return document
            raise ClientError(
                {
                    "code": "not_a_gateway",
                    "detail": f"what answers at {self._url} is no storage gateway",
                    "remedy": "Check the URL.",
                }
            )


def path_of(urn: str) -> str:
    """Return the path of an object."""
    # The pin of a name, "?=cid=", would else begin a query.
    return f"/v1/objects/{quote(urn, ':')}"


def path_of_session(session_id: str) -> str:
    """Return the path of a session. Raises ClientError for what is no id."""
    return f"/v1/sessions/{_checked(session_id, 'session')}"


def path_of_slot(session_id: str, task_id: str, direction: str) -> str:
    """Return the path that uploads go to. Raises ClientError for what is no id."""
    return f"{path_of_session(session_id)}/tasks/{_checked(task_id, 'task')}/{direction}"


def _checked(scope_id: str, field: str) -> str:
    """Return an id that names no other path. Raises ClientError."""
    try:
        return check_scope_id(scope_id, field)
    except InvalidField as error:
        problem = {"code": error.code, "detail": error.detail, "remedy": error.remedy}
        raise ClientError(problem) from None


async def _raise_for_problem(answer: aiohttp.ClientResponse) -> None:
    if answer.ok:
        return
    body = await answer.read()
    try:
        problem = json.loads(body)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"status": answer.status, "detail": f"the answer was {answer.status}"}
    raise ClientError(problem)


async def _pieces(source: Source, on_bytes: OnBytes) -> AsyncIterator[bytes]:
    while piece := await asyncio.to_thread(source.read, PIECE_SIZE):
        yield piece
        on_bytes(len(piece))


def read_token(path: Path) -> str:
    """Return the token in a file."""
    return path.read_text(encoding="utf-8").strip()
