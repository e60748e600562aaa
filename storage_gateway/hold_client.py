"""What a client asks of holds (operator)."""

from typing import Any
from urllib.parse import quote

from .client import Client, path_of, path_of_session

_HOLD = frozenset({"hold_id", "since", "released"})

Document = dict[str, Any]


class HoldClient:
    """Asks one gateway about the holds on an object, or else on a session as a whole.

    Each method raises ClientError when it refuses.
    """

    def __init__(self, client: Client, *, urn: str | None, session_id: str | None) -> None:
        """``client`` stays the caller's to close."""
        self._client = client
        on = path_of(urn) if urn is not None else path_of_session(session_id or "")
        self._path = f"{on}/holds"

    async def all(self) -> Document:
        """Return the holds, of an object with those on its session (``session_holds``)."""
        return await self._client.ask("GET", self._path, members={"holds"})

    async def place(self, who: str, why: str) -> Document:
        """Place one."""
        return await self._client.ask("POST", self._path, {"who": who, "why": why}, members=_HOLD)

    async def release(self, hold_id: str, who: str, why: str) -> Document:
        """Release one; again is the same."""
        path = f"{self._path}/{quote(hold_id, safe='')}/release"
        return await self._client.ask("POST", path, {"who": who, "why": why}, members=_HOLD)
