"""Handlers of blind custody: reservations, and the heads of objects."""

import re
from typing import Annotated, cast

import msgspec
from aiohttp import hdrs, web

from crypto import HEADER_SIZE_MAX, NONCE_SIZE
from storage_gateway.blind import pending_of
from storage_gateway.errors import InvalidField, PreconditionRequired
from storage_gateway.records import Caller

from .access import LOOK
from .blind_requests import require_blind
from .body import read_json, read_pieces
from .object_handlers import Looked, manifest_for
from .pace import pace_of
from .representations import check_readable, pending_json, reservation_json
from .sending import matches
from .services import SERVICES

HEAD_TYPE = "application/octet-stream"
_ETAG = re.compile(r'"g([1-9][0-9]{0,8})"', re.ASCII)
_GENERATION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


class _Confirmation(msgspec.Struct, forbid_unknown_fields=True):
    generation: Annotated[int, msgspec.Meta(ge=1, le=999_999_999)]


async def make_reservation(request: web.Request, _caller: Caller) -> web.Response:
    """``POST …/input/reservations`` and ``…/output/reservations``: names for a sealed upload."""
    slot, *_ = cast("Looked", request[LOOK])
    reservation = await request.app[SERVICES].blind.reserve(slot)
    return web.json_response(
        reservation_json(reservation), status=201, headers={"Cache-Control": "no-store"}
    )


async def show_header(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/objects/{urn}/header``: the head; with ``generation`` one that was replaced."""
    manifest = await manifest_for(request, caller)
    asked = request.query.get("generation")
    if asked is not None and _GENERATION.fullmatch(asked) is None:
        raise InvalidField("generation must be a number", field="generation")
    check_readable(manifest)
    generation = None if asked is None else int(asked)
    etag = _etag_of(generation or manifest.generation)
    headers = {"ETag": etag, "Cache-Control": "private, no-store", "Vary": "Authorization"}
    if matches(request, etag) and generation in {None, manifest.generation}:
        return web.Response(status=304, headers=headers)
    head = await request.app[SERVICES].blind.header(manifest, generation or manifest.generation)
    return web.Response(body=head, content_type=HEAD_TYPE, headers=headers)


async def replace_header(request: web.Request, caller: Caller) -> web.Response:
    """``PATCH /v1/objects/{urn}/header``: a new head for the same payload, by the user."""
    services = request.app[SERVICES]
    manifest = await manifest_for(request, caller)
    require_blind(manifest)
    check_readable(manifest)
    generation = _expected_generation(request)
    body = bytearray()
    bytes_max = HEADER_SIZE_MAX + NONCE_SIZE
    async for piece in read_pieces(request, bytes_max=bytes_max, pace=pace_of(services.config)):
        body += piece
    after = await services.blind.rewrap(
        manifest.object_id, generation, bytes(body), request.query.get("parties")
    )
    pending = await services.catalog.read(lambda c: pending_of(c, after))
    headers = {"ETag": _etag_of(after.generation), "Cache-Control": "private, no-store"}
    return web.json_response(pending_json(pending), headers=headers)


async def confirm_header(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/objects/{urn}/header/confirmations``: the caller has opened the current head."""
    services = request.app[SERVICES]
    manifest = await manifest_for(request, caller)
    require_blind(manifest)
    config = services.config
    said = await read_json(
        request, _Confirmation, bytes_max=config.json_bytes_max, pace=pace_of(config)
    )
    waiting = await services.blind.confirm(manifest, said.generation, caller.kind, caller.miner)
    return web.json_response(
        {
            "session_id": manifest.slot.session_id,
            "generation": said.generation,
            "waiting_for": [party.as_json() for party in waiting],
        },
        headers={"Cache-Control": "private, no-store"},
    )


def _expected_generation(request: web.Request) -> int:
    values = request.headers.getall(hdrs.IF_MATCH, [])
    if not values:
        raise PreconditionRequired("which header is to be replaced was not said")
    found = _ETAG.fullmatch(values[0].strip()) if len(values) == 1 else None
    if found is None:
        raise InvalidField('If-Match must be one ETag of a header, like "g1"', field="If-Match")
    return int(found[1])


def _etag_of(generation: int) -> str:
    return f'"g{generation}"'
