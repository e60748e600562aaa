"""What a client asks of sessions whose custody is blind."""

from typing import Any

from .client import MEMBERS_OF_ALL, Client, path_of, path_of_session, path_of_slot

Document = dict[str, Any]
_RESERVATION = MEMBERS_OF_ALL | {"urn", "payload_id", "context", "recipients"}


class BlindClient:
    """Asks one gateway. Each method raises ClientError when it refuses."""

    def __init__(self, client: Client) -> None:
        """``client`` stays the caller's to close."""
        self._client = client

    async def session(self, session_id: str) -> Document:
        """Return a session's document, without tokens."""
        members = MEMBERS_OF_ALL | {"custody"}
        return await self._client.ask("GET", path_of_session(session_id), members=members)

    async def pending(self, session_id: str, cursor: str | None, limit: int) -> Document:
        """Return a page of manifests: of objects whose head is for outdated keys."""
        query = f"pending=true&limit={limit}" + ("" if cursor is None else f"&cursor={cursor}")
        path = f"{path_of_session(session_id)}/objects?{query}"
        return await self._client.ask("GET", path, members={"objects", "next"})

    async def reserve(self, session_id: str, task_id: str, direction: str) -> Document:
        """Return names, context and recipients for an upload that is sealed here."""
        path = f"{path_of_slot(session_id, task_id, direction)}/reservations"
        return await self._client.ask("POST", path, members=_RESERVATION)

    async def header(self, urn: str) -> bytes:
        """Return the head of an object."""
        return await self._client.fetch(f"{path_of(urn)}/header")

    async def replace_header(
        self, urn: str, generation: int, head: bytes, *, parties_id: str
    ) -> Document:
        """Put another head in the place of that of a generation, wrapped for that set of parties.

        ``generation_mismatch`` and ``stale_parties`` say that head or keys have changed meanwhile.
        """
        return await self._client.ask(
            "PATCH",
            f"{path_of(urn)}/header?parties={parties_id}",
            headers={"If-Match": f'"g{generation}"'},
            body=head,
            members=MEMBERS_OF_ALL,
        )

    async def confirm_header(self, urn: str, generation: int) -> Document:
        """Say that the token's party has opened the head of that generation."""
        path, said = f"{path_of(urn)}/header/confirmations", {"generation": generation}
        return await self._client.ask("POST", path, said, members={"waiting_for"})
