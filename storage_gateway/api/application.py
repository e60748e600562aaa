"""The route table, and the aiohttp application made from it."""

from aiohttp import web

from storage_gateway.records import TokenKind

from .access import EVERYONE_KNOWN, OPERATOR, PARTIES, Route
from .block_handlers import get_block
from .header_handlers import confirm_header, make_reservation, replace_header, show_header
from .health_handlers import healthz, readyz
from .hold_handlers import (
    place_hold_on_object,
    place_hold_on_session,
    release_hold_on_object,
    release_hold_on_session,
    show_holds_on_object,
    show_holds_on_session,
)
from .job_handlers import (
    JOBS,
    show_failures,
    show_job,
    show_job_events,
    show_jobs,
    start_job,
    stop_job,
)
from .key_handlers import (
    add_miner,
    challenge,
    change_key_state,
    change_router_state,
    register_key,
    remove_miner,
    rotate_router,
    show_keys,
    show_router_keys,
)
from .late_handlers import look_at_upload, show_upload
from .middleware import answer_errors, set_common_headers
from .object_handlers import (
    erase_object,
    get_object,
    look_at_input,
    look_at_input_to_come,
    look_at_object,
    look_at_output,
    look_at_output_to_come,
    show_manifest,
    upload,
)
from .pass_handlers import run_pass
from .protocol import READ_BUFFER_SIZE
from .retention_handlers import (
    change_object_lifetime,
    let_go_object,
    renew_object_lease,
    show_retention,
)
from .services import SERVICES, Services
from .session_handlers import (
    change_retention,
    create_session,
    list_session_objects,
    reissue_token,
    show_session,
)
from .stress_handlers import list_cases, show_events, show_run, start_run, stop_run
from .sweep_handlers import show_verdicts

_USER = frozenset({TokenKind.USER})
_MINER = frozenset({TokenKind.MINER})

SESSION = "/v1/sessions/{session}"
TASK = f"{SESSION}/tasks/{{task}}"
OBJECT = "/v1/objects/{urn}"
JOB = f"{JOBS}/{{job}}"
HEADER = f"{OBJECT}/header"
RETENTION = f"{OBJECT}/retention"
LEASE = f"{OBJECT}/lease"
STRESS_RUN = "/v1/stress/runs/{run}"

ROUTES = (
    Route("GET", "/healthz", None, healthz),
    Route("HEAD", "/healthz", None, healthz),
    Route("GET", "/readyz", None, readyz),
    Route("HEAD", "/readyz", None, readyz),
    Route("POST", "/v1/sessions", OPERATOR, create_session),
    Route("GET", SESSION, EVERYONE_KNOWN, show_session),
    Route("PUT", f"{SESSION}/retention", OPERATOR, change_retention),
    Route("POST", f"{SESSION}/tokens", OPERATOR, reissue_token),
    Route("GET", f"{SESSION}/keys", EVERYONE_KNOWN, show_keys),
    Route("POST", f"{SESSION}/keys", EVERYONE_KNOWN, register_key),
    Route("POST", f"{SESSION}/keys/challenges", EVERYONE_KNOWN, challenge),
    Route("POST", f"{SESSION}/keys/states", EVERYONE_KNOWN, change_key_state),
    Route("POST", f"{SESSION}/miners", OPERATOR, add_miner),
    Route("DELETE", f"{SESSION}/miners/{{miner}}", OPERATOR, remove_miner),
    Route("GET", f"{SESSION}/holds", OPERATOR, show_holds_on_session),
    Route("POST", f"{SESSION}/holds", OPERATOR, place_hold_on_session),
    Route("POST", f"{SESSION}/holds/{{hold}}/release", OPERATOR, release_hold_on_session),
    Route("GET", f"{SESSION}/objects", EVERYONE_KNOWN, list_session_objects),
    Route("GET", f"{SESSION}/uploads/{{upload}}", EVERYONE_KNOWN, show_upload, look_at_upload),
    Route("POST", f"{SESSION}/tasks/{{task}}/input", OPERATOR | _USER, upload, look_at_input),
    Route("POST", f"{SESSION}/tasks/{{task}}/output", OPERATOR | _MINER, upload, look_at_output),
    Route("POST", f"{TASK}/input/reservations", _USER, make_reservation, look_at_input_to_come),
    Route("POST", f"{TASK}/output/reservations", _MINER, make_reservation, look_at_output_to_come),
    Route("GET", OBJECT, PARTIES, get_object, look_at_object),
    Route("HEAD", OBJECT, PARTIES, get_object, look_at_object),
    Route("DELETE", OBJECT, OPERATOR | _USER, erase_object),
    Route("GET", f"{OBJECT}/holds", OPERATOR, show_holds_on_object),
    Route("POST", f"{OBJECT}/holds", OPERATOR, place_hold_on_object),
    Route("POST", f"{OBJECT}/holds/{{hold}}/release", OPERATOR, release_hold_on_object),
    Route("GET", f"{OBJECT}/manifest", EVERYONE_KNOWN, show_manifest),
    Route("GET", RETENTION, EVERYONE_KNOWN, show_retention),
    Route("PUT", RETENTION, OPERATOR | _USER, change_object_lifetime),
    Route("PUT", LEASE, OPERATOR | _USER, renew_object_lease),
    Route("DELETE", LEASE, OPERATOR | _USER, let_go_object),
    Route("POST", JOBS, OPERATOR | _USER, start_job),
    Route("GET", JOBS, OPERATOR | _USER, show_jobs),
    Route("GET", JOB, OPERATOR | _USER, show_job),
    Route("DELETE", JOB, OPERATOR | _USER, stop_job),
    Route("GET", f"{JOB}/events", OPERATOR | _USER, show_job_events),
    Route("GET", f"{JOB}/failures", OPERATOR | _USER, show_failures),
    Route("GET", "/v1/admin/keys", OPERATOR, show_router_keys),
    Route("POST", "/v1/admin/keys", OPERATOR, rotate_router),
    Route("POST", "/v1/admin/keys/states", OPERATOR, change_router_state),
    Route("GET", HEADER, PARTIES, show_header),
    Route("PATCH", HEADER, _USER, replace_header),
    Route("POST", f"{HEADER}/confirmations", PARTIES, confirm_header),
    Route("POST", "/v1/admin/passes/{pass}", OPERATOR, run_pass),
    Route("GET", "/v1/admin/retention/verdicts", OPERATOR, show_verdicts),
    Route("GET", "/v1/stress", OPERATOR, list_cases),
    Route("POST", "/v1/stress/{case}", OPERATOR, start_run),
    Route("GET", STRESS_RUN, OPERATOR, show_run),
    Route("DELETE", STRESS_RUN, OPERATOR, stop_run),
    Route("GET", f"{STRESS_RUN}/events", OPERATOR, show_events),
)

BLOCK_ROUTES = tuple(
    Route(method, path, None, get_block)
    for path in ("/ipfs/{cid}", "/ipfs/{cid}/{path:.*}")
    for method in ("GET", "HEAD")
)
"""There only where ``serve_ipfs`` is set. For anybody: a CID is enough to have ciphertext."""


def make_application(services: Services) -> web.Application:
    """Return the application; nothing is started by it."""
    app = web.Application(
        middlewares=[answer_errors],
        handler_args={
            # A compressed body could be a thousand times its size; codings are refused instead.
            "auto_decompress": False,
            "access_log": None,
            "keepalive_timeout": 75.0,
            "lingering_time": 5.0,
            "read_bufsize": READ_BUFFER_SIZE,
        },
    )
    app[SERVICES] = services
    app.on_response_prepare.append(set_common_headers)
    for route in ROUTES if services.blocks is None else ROUTES + BLOCK_ROUTES:
        app.router.add_route(route.method, route.path, route.guarded())
    return app
