"""Handlers: keys of a session's parties and of the router, and miners that come and go."""

from typing import Annotated, TypeVar

import msgspec
from aiohttp import web

from crypto import CLASSIC
from storage_gateway.catalog.registry import Holder, KeyVersion
from storage_gateway.errors import Forbidden, InvalidField
from storage_gateway.key_states import KeyState
from storage_gateway.records import MINER, ROUTER, USER, Caller, TokenKind
from storage_gateway.times import timestamp

from .body import read_json
from .pace import pace_of
from .services import SERVICES
from .session_handlers import Text, address_of

NO_STORE = {"Cache-Control": "no-store"}
T = TypeVar("T")
Version = Annotated[int, msgspec.Meta(ge=1, le=10**9)]


class _Wish(msgspec.Struct, forbid_unknown_fields=True):
    party: Text
    recipient: Text
    miner: Text | None = None
    answer: Text | None = None


class _StateWish(msgspec.Struct, forbid_unknown_fields=True):
    party: Text
    version: Version
    state: KeyState
    miner: Text | None = None
    urgent: bool = False


class _RouterState(msgspec.Struct, forbid_unknown_fields=True):
    version: Version
    state: KeyState
    urgent: bool = False


class _RouterWish(msgspec.Struct, forbid_unknown_fields=True):
    key_class: Text = CLASSIC


class _NewMiner(msgspec.Struct, forbid_unknown_fields=True):
    id: Text
    recipient: Text


async def show_keys(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/sessions/{session}/keys``: the versions, their states, what depends on each."""
    services = request.app[SERVICES]
    session = await services.sessions.get(request.match_info["session"])
    return await _census(request, session.session_id, caller)


async def show_router_keys(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/admin/keys``: the same of the router's own."""
    return await _census(request, "", caller)


async def challenge(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/keys/challenges``: what opens to the answer of a proof."""
    wish = await _read(request, _Wish)
    holder = _holder_of(request, caller, wish.party, wish.miner)
    made, until_s = await request.app[SERVICES].registry.challenge(holder, wish.recipient)
    document = {"challenge": made, "expires": timestamp(until_s * 1000)}
    return web.json_response(document, headers=NO_STORE)


async def register_key(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/keys``: a new active version; the one before retires."""
    wish = await _read(request, _Wish)
    holder = _holder_of(request, caller, wish.party, wish.miner)
    key = await request.app[SERVICES].registry.register(holder, wish.recipient, wish.answer)
    return web.json_response(key_json(key), status=201, headers=NO_STORE)


async def change_key_state(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/keys/states``: the next state of one version."""
    wish = await _read(request, _StateWish)
    holder = _holder_of(request, caller, wish.party, wish.miner)
    key = await request.app[SERVICES].registry.change_state(
        holder, wish.version, wish.state, urgent=wish.urgent
    )
    return web.json_response(key_json(key), headers=NO_STORE)


async def rotate_router(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/admin/keys``: a new active version of the router's own; the one before retires."""
    wish = await _read(request, _RouterWish)
    key = await request.app[SERVICES].registry.rotate_router(wish.key_class)
    return web.json_response(key_json(key), status=201, headers=NO_STORE)


async def change_router_state(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/admin/keys/states``: the same of the router's own."""
    wish = await _read(request, _RouterState)
    key = await request.app[SERVICES].registry.change_router_state(
        wish.version, wish.state, urgent=wish.urgent
    )
    return web.json_response(key_json(key), headers=NO_STORE)


async def add_miner(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/miners``: one more; its token is shown this once."""
    wish = await _read(request, _NewMiner)
    miner = address_of(wish.id, "id")
    registry = request.app[SERVICES].registry
    key, token = await registry.add_miner(request.match_info["session"], miner, wish.recipient)
    return web.json_response(key_json(key) | {"token": token}, status=201, headers=NO_STORE)


async def remove_miner(request: web.Request, _caller: Caller) -> web.Response:
    """``DELETE /v1/sessions/{session}/miners/{miner}``: again is the same."""
    miner = address_of(request.match_info["miner"], "miner")
    await request.app[SERVICES].registry.remove_miner(request.match_info["session"], miner)
    return web.json_response({"party": MINER, "miner": miner, "removed": True}, headers=NO_STORE)


def key_json(key: KeyVersion) -> dict[str, object]:
    """Return a key version as it is shown."""
    return {
        "party": key.role,
        "miner": key.miner,
        "version": key.version,
        "recipient": key.recipient,
        "key_class": key.key_class,
        "state": key.state.value,
        "proof": "proven" if key.proven else "unproven",
        "created": timestamp(key.created_ms),
        "changed": timestamp(key.changed_ms),
    }


async def _census(request: web.Request, session_id: str, caller: Caller) -> web.Response:
    census, due = await request.app[SERVICES].registry.census(session_id)
    documents = []
    for key, heads, uploads in census:
        if caller.kind is TokenKind.MINER and key.role == MINER and key.miner != caller.miner:
            continue
        counted = {"heads": heads, "uploads": uploads, "copies_due": due}
        # Nothing depends on it, and nothing will: only the active one is sealed to.
        idle = key.state is not KeyState.ACTIVE and not (heads or uploads or due)
        documents.append(key_json(key) | counted | {"safe_to_destroy": idle})
    return web.json_response({"keys": documents}, headers=NO_STORE)


async def _read(request: web.Request, kind: type[T]) -> T:
    config = request.app[SERVICES].config
    return await read_json(request, kind, bytes_max=config.json_bytes_max, pace=pace_of(config))


def _holder_of(request: web.Request, caller: Caller, party: str, miner: str | None) -> Holder:
    """Return whose key is meant, if the caller may say anything of it."""
    session_id = request.match_info["session"]
    if party == MINER:
        holder = Holder(session_id, MINER, address_of(miner or "", "miner"))
    elif party in {USER, ROUTER} and miner is None:
        # A router that is no party of the session is not found: it is the deployment's.
        holder = Holder(session_id, party, None)
    else:
        raise InvalidField(
            "party must be 'user', 'router' (of blind custody), or 'miner' with 'miner'",
            field="party",
        )
    own = (caller.kind.value, caller.miner) == (holder.role, holder.miner)
    if caller.kind is not TokenKind.OPERATOR and not own:
        raise Forbidden("the token belongs to another party")
    return holder
