"""Handlers: uploads into slots, objects by URN."""

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import cast

from aiohttp import hdrs, web
from sqlalchemy import Connection

from crypto import Meta, MetaError
from storage_gateway.blind import Pending, pending_of
from storage_gateway.catalog import Unit
from storage_gateway.catalog.blind import Reservation
from storage_gateway.catalog.objects import load_manifest
from storage_gateway.catalog.outcomes import Outcome
from storage_gateway.errors import (
    Forbidden,
    InvalidField,
    ReservationUsed,
    SlotBusy,
    SlotTaken,
)
from storage_gateway.ids import check_scope_id
from storage_gateway.late import Late
from storage_gateway.read import Loaded, check_pin
from storage_gateway.records import (
    INPUT,
    OUTPUT,
    Caller,
    Manifest,
    ObjectState,
    Session,
    Slot,
    TokenKind,
)
from storage_gateway.stale import check_opened, check_sealed
from urn import mint

from .access import LOOK, check_known
from .blind_requests import check_custody, offered_kind, reserved
from .body import read_pieces
from .late_handlers import or_pending, pending_response, told_where
from .lifetimes import check_lifetime, lifetime_of
from .pace import pace_of
from .representations import (
    PLAINTEXT_TYPE,
    SEALED_TYPE,
    check_readable,
    name_of,
    object_json,
    pending_json,
)
from .sending import matches, send_pieces
from .services import SERVICES
from .session_handlers import address_of

HELD_RECIPIENT = "Held-Recipient"
"""A header by which a reader may say which recipient's identity it holds."""
Looked = tuple[Slot, Session, Reservation | None]
"""A slot, its session, and the reservation that a sealed upload is for where custody is blind."""


def look_at_input(request: web.Request, caller: Caller) -> Unit[Looked]:
    """Look at the slot of an input."""
    if "miner" in request.query:
        raise InvalidField("an input belongs to no miner", field="miner")
    return _look_at(request, caller, INPUT, None)


def look_at_output(request: web.Request, caller: Caller) -> Unit[Looked]:
    """Look at the slot of an output, that of the miner who writes it."""
    named = request.query.get("miner")
    miner = None if named is None else address_of(named, "miner")
    if caller.kind is TokenKind.MINER:
        if miner not in (None, caller.miner):
            raise Forbidden("the token belongs to another miner")
        miner = caller.miner
    elif miner is None:
        raise InvalidField("an operator must name the miner: ?miner=0x…", field="miner")
    return _look_at(request, caller, OUTPUT, miner)


def look_at_input_to_come(request: web.Request, caller: Caller) -> Unit[Looked]:
    """Look at the slot that an input is to be sealed for."""
    return _look_at(request, caller, INPUT, None, comes=False)


def look_at_output_to_come(request: web.Request, caller: Caller) -> Unit[Looked]:
    """Look at the slot that an output of the caller's is to be sealed for."""
    return _look_at(request, caller, OUTPUT, caller.miner, comes=False)


def _look_at(
    request: web.Request,
    caller: Caller,
    direction: str,
    miner: str | None,
    *,
    comes: bool = True,
) -> Unit[Looked]:
    task_id = check_scope_id(request.match_info["task"], "task")
    slot = Slot(request.match_info["session"], task_id, direction, miner)
    lifetime_s = lifetime_of(request)
    look = request.app[SERVICES].uploads.look(slot)

    def unit(connection: Connection) -> Looked:
        try:
            with _holder_named():
                # Before the slot: whoever sends the same again is told of the reservation.
                reservation = reserved(request, slot)(connection) if comes else None
                session = look(connection)
        except SlotBusy as error:
            raise told_where(error, caller)(connection) from None
        if comes:
            check_custody(request, session, reservation)
            check_lifetime(lifetime_s, session)
        return slot, session, reservation

    return unit


@contextmanager
def _holder_named() -> Iterator[None]:
    """Name who holds a slot as callers know it."""
    try:
        yield
    except (SlotTaken, ReservationUsed) as error:
        object_id = error.extensions.get("object_id")
        named = {} if object_id is None else {"urn": mint(str(object_id)).urn}
        raise type(error)(error.detail, **named) from None


async def upload(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/sessions/{session}/tasks/{task}/input`` and ``…/output``."""
    looked = cast("Looked", request[LOOK])
    services = request.app[SERVICES]

    async def take_in(late: Late) -> Manifest:
        # Under way until its end, also when its request was answered before.
        with services.under_way.request():
            return await _take_in(request, looked, late)

    try:
        with _holder_named():
            taken = await services.late.take_in(take_in)
    except SlotBusy as error:  # since it was looked at
        raise await services.catalog.read(told_where(error, caller)) from None
    if isinstance(taken, Outcome):
        return pending_response(taken)
    document = object_json(taken)
    location = f"/v1/objects/{document['urn']}"
    return web.json_response(document, status=201, headers={"Location": location})


async def _take_in(request: web.Request, looked: Looked, late: Late) -> Manifest:
    slot, session, reservation = looked
    services = request.app[SERVICES]
    config, uploads, size = services.config, services.uploads, request.content_length
    lifetime_s = lifetime_of(request)
    body = read_pieces(request, bytes_max=config.object_bytes_max, pace=pace_of(config))
    async with aclosing(body):
        if reservation is not None:
            blind = services.blind
            return await blind.take_in(
                reservation, session, body, size=size, late=late, lifetime_s=lifetime_s
            )
        if request.content_type == SEALED_TYPE:
            return await uploads.adopt(
                slot, session, body, size=size, late=late, lifetime_s=lifetime_s
            )
        return await uploads.seal(
            slot, session, body, _meta_of(request), size=size, late=late, lifetime_s=lifetime_s
        )


def _meta_of(request: web.Request) -> Meta:
    try:
        meta = Meta(
            content_type=request.headers.get(hdrs.CONTENT_TYPE, PLAINTEXT_TYPE),
            filename=request.query.get("filename"),
        )
        meta.canonical()  # refuses what would be too large
    except MetaError as error:
        raise InvalidField(str(error), field="filename or Content-Type") from None
    return meta


def look_at_object(request: web.Request, caller: Caller) -> Unit[Loaded]:
    """Look at the object that the path names."""
    object_id = name_of(request).object_id
    return or_pending(request.app[SERVICES].reads.look(object_id, caller), object_id, caller)


async def get_object(request: web.Request, caller: Caller) -> web.StreamResponse:
    """``GET``/``HEAD /v1/objects/{urn}``: the sealed file, or the plaintext when asked for."""
    reads = request.app[SERVICES].reads
    name, loaded = name_of(request), cast("Loaded", request[LOOK])
    manifest = loaded.manifest
    check_known(manifest.slot, caller)
    check_pin(manifest, name.cid)
    check_readable(manifest)
    kind = offered_kind(request, manifest)
    sealed = kind == SEALED_TYPE
    if sealed:
        check_sealed(manifest, caller, loaded.keys, request.headers.get(HELD_RECIPIENT))
    else:
        check_opened(manifest, loaded.keys)
    etag = f'"{manifest.cid}.g{manifest.generation}"' if sealed else f'"{manifest.cid}.p"'
    headers = {
        "ETag": etag,
        "Vary": f"Accept, Authorization, {HELD_RECIPIENT}",
        "Cache-Control": "private, no-cache" if sealed else "private, no-store",
        "Content-Disposition": "attachment",
        "Accept-Ranges": "none",
    }
    if matches(request, etag):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_type = kind
    response.content_length = manifest.sealed_size if sealed else manifest.size
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    form = reads.sealed if sealed else reads.plaintext
    await send_pieces(request, response, form(manifest.object_id, loaded))
    return response


async def show_manifest(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/objects/{urn}/manifest``, of an erased object too."""
    name = name_of(request)

    def look(connection: Connection) -> Pending:
        return pending_of(connection, load_manifest(connection, name.object_id))

    pending = await request.app[SERVICES].catalog.read(or_pending(look, name.object_id, caller))
    check_known(pending.manifest.slot, caller)
    check_pin(pending.manifest, name.cid)
    return web.json_response(pending_json(pending), headers={"Cache-Control": "private, no-cache"})


async def erase_object(request: web.Request, caller: Caller) -> web.Response:
    """``DELETE /v1/objects/{urn}``: unreadable at once; 202 until that is proved everywhere."""
    services = request.app[SERVICES]
    manifest = await manifest_for(request, caller)
    erased = await services.erasure.erase(manifest.object_id)
    status = 200 if erased.state is ObjectState.ERASED else 202
    return web.json_response(object_json(erased), status=status)


async def manifest_for(request: web.Request, caller: Caller) -> Manifest:
    """Return the manifest that the path names, if the caller may know of it."""
    name = name_of(request)
    manifest = await request.app[SERVICES].catalog.read(
        or_pending(lambda c: load_manifest(c, name.object_id), name.object_id, caller)
    )
    check_known(manifest.slot, caller)
    check_pin(manifest, name.cid)
    return manifest
