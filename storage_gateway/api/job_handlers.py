"""Handlers: jobs, begun by operators and by users for their own session."""

from typing import Annotated, Any

import msgspec
from aiohttp import web

from storage_gateway.catalog.jobs import FAILURES_PAGE, JobRow
from storage_gateway.errors import Forbidden, InvalidField, UnknownJob
from storage_gateway.records import Caller, TokenKind
from storage_gateway.times import timestamp
from urn import mint

from .body import read_json
from .events import send_events
from .pace import pace_of
from .services import SERVICES
from .session_handlers import Text

JOBS = "/v1/jobs"
RATE_MAX = 10.0**6
NO_STORE = {"Cache-Control": "no-store"}


class _Wish(msgspec.Struct, forbid_unknown_fields=True):
    kind: Text
    session_id: Text | None = None
    dry_run: bool = False
    rate: Annotated[float, msgspec.Meta(ge=0, le=RATE_MAX)] = 0.0


async def start_job(request: web.Request, caller: Caller) -> web.Response:
    """``POST /v1/jobs``: begin one, 202; with ``dry_run`` only count, 200."""
    services = request.app[SERVICES]
    config = services.config
    wish = await read_json(request, _Wish, bytes_max=config.json_bytes_max, pace=pace_of(config))
    session_id = wish.session_id
    if caller.kind is TokenKind.USER:
        if session_id not in (None, caller.session_id):
            raise Forbidden("the token belongs to another session")
        session_id = caller.session_id
    if session_id is not None:
        await services.sessions.get(session_id)
    if wish.dry_run:
        found = await services.jobs.count(wish.kind, session_id)
        document = {"kind": wish.kind, "dry_run": True, "to_do": sum(found.values())}
        return web.json_response(document | {"sessions": found}, headers=NO_STORE)
    job = await services.jobs.start(wish.kind, session_id, wish.rate)
    location = f"{JOBS}/{job.job_id}"
    document = job_json(job) | {"events": f"{location}/events"}
    return web.json_response(document, status=202, headers=NO_STORE | {"Location": location})


async def show_jobs(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/jobs``: the newest first."""
    found = [job for job in await request.app[SERVICES].jobs.all() if _may_see(job, caller)]
    return web.json_response({"jobs": [job_json(job) for job in found]}, headers=NO_STORE)


async def show_job(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/jobs/{job}``: how far it is."""
    return web.json_response(job_json(await _job_for(request, caller)), headers=NO_STORE)


async def stop_job(request: web.Request, caller: Caller) -> web.Response:
    """``DELETE /v1/jobs/{job}``: stop it; what is done stays done. 202 until it has ended."""
    job = await _job_for(request, caller)
    job = await request.app[SERVICES].jobs.stop(job.job_id)
    status = 202 if job.ended_ms is None else 200
    return web.json_response(job_json(job), status=status, headers=NO_STORE)


async def show_failures(request: web.Request, caller: Caller) -> web.Response:
    """``GET /v1/jobs/{job}/failures``: what it could not do; ``next`` is the next cursor."""
    job = await _job_for(request, caller)
    after = request.query.get("cursor", "")
    if after and not after.isalnum():
        raise InvalidField("the cursor is not one that was answered here", field="cursor")
    rows = await request.app[SERVICES].jobs.failures(job.job_id, after, FAILURES_PAGE + 1)
    page = rows[:FAILURES_PAGE]
    document = {
        "failures": [
            {"urn": mint(row.object_id).urn, "code": row.code, "detail": row.detail} for row in page
        ],
        "next": page[-1].object_id if len(rows) > FAILURES_PAGE else None,
    }
    return web.json_response(document, headers=NO_STORE)


async def show_job_events(request: web.Request, caller: Caller) -> web.StreamResponse:
    """``GET …/events``: server-sent events, ``progress`` until ``end``."""
    services = request.app[SERVICES]
    job = await _job_for(request, caller)
    return await send_events(
        request,
        services.jobs.watch(job.job_id),
        document_of=job_json,
        has_ended=lambda row: row.ended_ms is not None,
    )


def job_json(job: JobRow) -> dict[str, Any]:
    """Return a job as it is answered."""
    document: dict[str, Any] = {
        "id": job.job_id,
        "kind": job.kind,
        "session_id": job.session_id,
        "rate": job.parameters.get("rate"),
        "state": job.state.value,
        "created": timestamp(job.created_ms),
        "progress": job.counts,
    }
    if job.ended_ms is not None:
        document["ended"] = timestamp(job.ended_ms)
    return document


def _may_see(job: JobRow, caller: Caller) -> bool:
    return caller.kind is TokenKind.OPERATOR or job.session_id == caller.session_id


async def _job_for(request: web.Request, caller: Caller) -> JobRow:
    job = await request.app[SERVICES].jobs.get(request.match_info["job"])
    if not _may_see(job, caller):
        raise UnknownJob("no such job")
    return job
