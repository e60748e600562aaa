"""What a client asks of keys and jobs."""

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from .client import Client

_KEY = frozenset({"version", "state"})
_JOB = frozenset({"id", "state", "progress"})
_ROUTER = "/v1/admin/keys"
_JOBS = "/v1/jobs"

Document = dict[str, Any]


class KeyClient:
    """Asks one gateway about keys and jobs. Each method raises ClientError when it refuses."""

    def __init__(self, client: Client) -> None:
        """``client`` stays the caller's to close."""
        self._client = client

    async def census(self, session_id: str | None) -> list[Document]:
        """Return the key versions of a session, of None the router's, with what depends on each."""
        path = _ROUTER if session_id is None else _keys_of(session_id)
        keys: list[Document] = (await self._client.ask("GET", path, members={"keys"}))["keys"]
        return keys

    async def challenge(self, session_id: str, wish: Document) -> str:
        """Return the challenge, in base64, that only the recipient's identity opens."""
        path = f"{_keys_of(session_id)}/challenges"
        made = await self._client.ask("POST", path, wish, members={"challenge"})
        return str(made["challenge"])

    async def register(self, session_id: str, wish: Document) -> Document:
        """Register a new version of a party's key."""
        return await self._client.ask("POST", _keys_of(session_id), wish, members=_KEY)

    async def rotate_router(self, key_class: str) -> Document:
        """Have the router make itself a new version (operator)."""
        wish = {"key_class": key_class}
        return await self._client.ask("POST", _ROUTER, wish, members=_KEY)

    async def change_state(self, session_id: str | None, wish: Document) -> Document:
        """Bring a version of a party's key, of None the router's, into another state."""
        path = _ROUTER if session_id is None else _keys_of(session_id)
        return await self._client.ask("POST", f"{path}/states", wish, members=_KEY)

    async def count_job(self, kind: str, session_id: str | None) -> Document:
        """Return how many objects a job would have to do; nothing is begun."""
        wish = {"kind": kind, "session_id": session_id, "dry_run": True}
        return await self._client.ask("POST", _JOBS, wish, members={"to_do", "sessions"})

    async def start_job(self, kind: str, session_id: str | None, rate: float) -> Document:
        """Begin a job, which goes on whatever becomes of the client."""
        wish = {"kind": kind, "session_id": session_id, "rate": rate}
        return await self._client.ask("POST", _JOBS, wish, members=_JOB)

    async def jobs(self) -> list[Document]:
        """Return the jobs that the token may see, the newest first."""
        found: list[Document] = (await self._client.ask("GET", _JOBS, members={"jobs"}))["jobs"]
        return found

    async def job(self, job_id: str) -> Document:
        """Return how far a job is."""
        return await self._client.ask("GET", _job(job_id), members=_JOB)

    async def stop_job(self, job_id: str) -> Document:
        """Ask a job to stop; what it has done stays done."""
        return await self._client.ask("DELETE", _job(job_id), members=_JOB)

    async def failures(self, job_id: str) -> AsyncIterator[Document]:
        """Yield what a job could not do."""
        path: str | None = f"{_job(job_id)}/failures"
        while path is not None:
            page = await self._client.ask("GET", path, members={"failures", "next"})
            for failure in page["failures"]:
                yield failure
            after = page["next"]
            path = after and f"{_job(job_id)}/failures?cursor={quote(after, safe='')}"


def _keys_of(session_id: str) -> str:
    return f"/v1/sessions/{quote(session_id, safe='')}/keys"


def _job(job_id: str) -> str:
    return f"{_JOBS}/{quote(job_id, safe='')}"
