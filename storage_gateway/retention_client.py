"""What a client asks of how long things stay."""

from typing import Any

from .client import Client, path_of, path_of_session

_CLAIMS = frozenset({"urn", "expires", "verdict"})

Document = dict[str, Any]


class RetentionClient:
    """Asks one gateway about lifetimes and leases. Each method raises ClientError when it refuses.

    All but `retain` answer with what is claimed of the object then.
    """

    def __init__(self, client: Client) -> None:
        """``client`` stays the caller's to close."""
        self._client = client

    async def show(self, urn: str) -> Document:
        """Return what is claimed of an object, and what a sweep would do with it now."""
        return await self._client.ask("GET", f"{path_of(urn)}/retention", members=_CLAIMS)

    async def set(self, urn: str, lifetime_s: int | None) -> Document:
        """Give an object another lifetime, from its commit; None is for ever."""
        wish = {"lifetime_s": lifetime_s}
        return await self._client.ask("PUT", f"{path_of(urn)}/retention", wish, members=_CLAIMS)

    async def renew(self, urn: str, for_s: int) -> Document:
        """Have the token's lease last so long from now, unless it lasts longer already."""
        wish = {"for_s": for_s}
        return await self._client.ask("PUT", f"{path_of(urn)}/lease", wish, members=_CLAIMS)

    async def let_go(self, urn: str) -> Document:
        """Give up the token's lease."""
        return await self._client.ask("DELETE", f"{path_of(urn)}/lease", members=_CLAIMS)

    async def retain(self, session_id: str, policy: str) -> Document:
        """Have a session go over to another policy, for what is committed later (operator)."""
        path, wish = f"{path_of_session(session_id)}/retention", {"policy": policy}
        return await self._client.ask("PUT", path, wish, members={"session_id", "retention"})
