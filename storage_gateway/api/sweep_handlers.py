"""Handlers: what a sweep would do."""

from aiohttp import web

from retention import Verdict
from storage_gateway.catalog.sweeping import Place, place_of
from storage_gateway.errors import InvalidField
from storage_gateway.records import Caller
from storage_gateway.times import timestamp
from urn import mint

from .services import SERVICES
from .session_handlers import limit_of

NO_STORE = {"Cache-Control": "no-store"}


async def show_verdicts(request: web.Request, _caller: Caller) -> web.Response:
    """``GET /v1/admin/retention/verdicts``: a page of the verdicts that a sweep would apply now,
    and of what it would leave as it is, though its time is over; ``next`` is the next cursor.
    """
    services = request.app[SERVICES]
    sweep = services.upkeep.sweep
    limit, place = limit_of(request, services.config.page_max), _place_of(request)
    judged = await sweep.judge(count=True)
    page = await sweep.verdicts(judged, place, limit)
    due = judged.due
    document = {
        "time": timestamp(judged.at_ms),
        "swept_until": None if judged.swept_ms is None else timestamp(judged.swept_ms),
        "clock": judged.clock.value,
        "behind": judged.is_behind,
        "braked": judged.braked,
        "goes": judged.goes,
        "living": judged.living,
        "due": {
            "expire": 0 if due is None else due.expire,
            "erase": 0 if due is None else due.erase,
            "revive": await sweep.count_revivable(judged),
        },
        "verdicts": [
            {"urn": mint(each.object_id).urn, **_verdict_json(each.verdict)}
            for each in page.planned
        ],
        "next": None if page.next is None else page.next.text,
    }
    return web.json_response(document, headers=NO_STORE)


def _verdict_json(verdict: Verdict) -> dict[str, str | None]:
    return {
        "action": verdict.action.value,
        "reason": verdict.reason.value,
        "until": None if verdict.until_ms is None else timestamp(verdict.until_ms),
    }


def _place_of(request: web.Request) -> Place:
    cursor = request.query.get("cursor")
    if cursor is None:
        return Place()
    place = place_of(cursor)
    if place is None:
        raise InvalidField("the cursor is not one that was answered here", field="cursor")
    return place
