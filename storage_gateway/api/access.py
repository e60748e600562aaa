"""Who may call a route. A route without a rule cannot be built: deny is the default."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import hdrs, web
from sqlalchemy import Connection

from storage_gateway.catalog import Unit
from storage_gateway.catalog.sessions import authenticate
from storage_gateway.errors import Forbidden, NotFound, Unauthenticated
from storage_gateway.ids import check_scope_id
from storage_gateway.records import Caller, Slot, TokenKind
from storage_gateway.tokens import TOKEN_LENGTH_MAX, token_digest

from .services import FOR_ANYBODY, SERVICES

PublicHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
PrivateHandler = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]
Look = Callable[[web.Request, Caller], Unit[Any]]
LOOK = web.RequestKey("look", object)
"""What a route's look into the catalog has found."""

OPERATOR = frozenset({TokenKind.OPERATOR})
PARTIES = frozenset({TokenKind.USER, TokenKind.MINER, TokenKind.ROUTER})
EVERYONE_KNOWN = OPERATOR | PARTIES


@dataclass(frozen=True, slots=True)
class Route:
    """A method and path, who may call it (None: anybody), and what answers."""

    method: str
    path: str
    allowed: frozenset[TokenKind] | None
    handler: PublicHandler | PrivateHandler
    look: Look | None = None
    """What the handler begins with. It is read in one go with the token, once that is found to be
    allowed: each hop to the catalog's threads costs as much as all that is read there."""

    def guarded(self) -> PublicHandler:
        """Return the handler behind its rule."""
        allowed, look = self.allowed, self.look
        if allowed is None:
            return _for_anybody(self.handler)  # type: ignore[arg-type]
        handler: PrivateHandler = self.handler  # type: ignore[assignment]

        async def guard(request: web.Request) -> web.StreamResponse:
            digest = _token_digest_of(request)

            def unit(connection: Connection) -> tuple[Caller, object]:
                caller = authenticate(connection, digest)
                _check_allowed(request, caller, allowed)
                return caller, None if look is None else look(request, caller)(connection)

            caller, request[LOOK] = await request.app[SERVICES].catalog.read(unit)
            return await handler(request, caller)

        return guard


def _for_anybody(handler: PublicHandler) -> PublicHandler:
    """Return a handler whose callers are told no more of a failure than what kind it is."""

    async def serve(request: web.Request) -> web.StreamResponse:
        request[FOR_ANYBODY] = True
        return await handler(request)

    return serve


def _check_allowed(request: web.Request, caller: Caller, allowed: frozenset[TokenKind]) -> None:
    if caller.kind not in allowed:
        raise Forbidden(f"a {caller.kind} token may not do this")
    session_id = request.match_info.get("session")
    # Decided by the token alone: what another session holds, or whether it exists, is not told.
    if session_id is not None:
        check_scope_id(session_id, "session")
        if not caller.in_session(session_id):
            raise Forbidden("the token belongs to another session")


def check_known(slot: Slot, caller: Caller) -> None:
    """Refuse who may not know of what is in a slot, as if nothing were there.

    Raises:
        NotFound: the caller is of another session, or a miner and it is another one's output.

    """
    if not caller.in_session(slot.session_id):
        raise NotFound("no such object")
    if caller.kind is TokenKind.MINER and slot.miner not in (None, caller.miner):
        raise NotFound("no such object")


def _token_digest_of(request: web.Request) -> bytes:
    values = request.headers.getall(hdrs.AUTHORIZATION, [])
    if len(values) != 1:
        raise Unauthenticated("exactly one Authorization header is needed")
    scheme, _, token = values[0].partition(" ")
    if scheme.lower() != "bearer" or not 0 < len(token) <= TOKEN_LENGTH_MAX:
        raise Unauthenticated("the Authorization header must be 'Bearer <token>'")
    return token_digest(token)
