"""Handlers: holds on objects and sessions, for the operator alone."""

from typing import Annotated

import msgspec
from aiohttp import web

from storage_gateway.catalog.holding import HoldRow, Scope
from storage_gateway.records import Caller
from storage_gateway.times import timestamp, timestamp_or_none

from .body import read_json
from .object_handlers import manifest_for
from .pace import pace_of
from .services import SERVICES

NO_STORE = {"Cache-Control": "no-store"}
WHO_MAX, WHY_MAX = 200, 1000
_C = r"\x00-\x1f\x7f-\x9f"
LINE = rf"\A[^{_C}]*[^\s{_C}][^{_C}]*\Z"
"""What is not blank and has no control characters: it is shown in logs and on terminals."""


class _Wish(msgspec.Struct, forbid_unknown_fields=True):
    who: Annotated[str, msgspec.Meta(pattern=LINE, max_length=WHO_MAX)]
    why: Annotated[str, msgspec.Meta(pattern=LINE, max_length=WHY_MAX)]


async def place_hold_on_object(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/objects/{urn}/holds``: what is held is erased by nobody."""
    return await _place(request, await _object_of(request, caller))


async def place_hold_on_session(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/holds``: the same of all that is, or comes, in a session."""
    return await _place(request, await _session_of(request))


async def show_holds_on_object(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/objects/{urn}/holds``: also those that were released, and those on its session."""
    scope = await _object_of(request, caller)
    holds = request.app[SERVICES].holds
    documents = {
        "holds": [hold_json(hold) for hold in await holds.all(scope)],
        "session_holds": [hold_json(hold) for hold in await holds.all(Scope(scope.session_id))],
    }
    return web.json_response(documents, headers=NO_STORE)


async def show_holds_on_session(request: web.Request, _caller: Caller) -> web.Response:
    """``GET /v1/sessions/{session}/holds``: those on the session as a whole."""
    found = await request.app[SERVICES].holds.all(await _session_of(request))
    return web.json_response({"holds": [hold_json(hold) for hold in found]}, headers=NO_STORE)


async def release_hold_on_object(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/objects/{urn}/holds/{hold}/release``: again is the same."""
    return await _release(request, await _object_of(request, caller))


async def release_hold_on_session(request: web.Request, _caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/holds/{hold}/release``: again is the same."""
    return await _release(request, await _session_of(request))


def hold_json(hold: HoldRow) -> dict[str, str | None]:
    """Return a hold as the operator is shown it."""
    return {
        "hold_id": hold.hold_id,
        "who": hold.who,
        "why": hold.why,
        "since": timestamp(hold.since_ms),
        "released": timestamp_or_none(hold.released_ms),
        "released_by": hold.released_by,
        "release_why": hold.release_why,
    }


async def _object_of(request: web.Request, caller: Caller) -> Scope:
    manifest = await manifest_for(request, caller)
    return Scope(manifest.slot.session_id, manifest.object_id)


async def _session_of(request: web.Request) -> Scope:
    session = await request.app[SERVICES].sessions.get(request.match_info["session"])
    return Scope(session.session_id)


async def _place(request: web.Request, scope: Scope) -> web.Response:
    wish = await _read(request)
    placed = await request.app[SERVICES].holds.place(scope, who=wish.who, why=wish.why)
    return web.json_response(hold_json(placed), status=201, headers=NO_STORE)


async def _release(request: web.Request, scope: Scope) -> web.Response:
    wish = await _read(request)
    released = await request.app[SERVICES].holds.release(
        scope, request.match_info["hold"], who=wish.who, why=wish.why
    )
    return web.json_response(hold_json(released), headers=NO_STORE)


async def _read(request: web.Request) -> _Wish:
    config = request.app[SERVICES].config
    return await read_json(request, _Wish, bytes_max=config.json_bytes_max, pace=pace_of(config))
