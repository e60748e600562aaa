"""What sealing costs: the gateway against one that seals nothing (`bench.null_sealer`).

Both stand on one core before buckets of one S3 server, which is where the load generator is.
"""

from contextlib import ExitStack

from . import small
from .figures import MIB, Row, made_up, rate_of
from .machine import cores, pinned, require_space
from .plan import Plan
from .s3_server import S3Server, on, s3_server
from .s3_sides import Gateway
from .s3_watch import CPU_UNIT, Watched, shown_shares, walls_of
from .servers import PLAINTEXT, GatewayServer, gateway_of
from .small import AT_ONCE, Requests, fetch_from, stored, upload_to

OURS, PEER = "gateway", "null sealer"
COUNT_PART = 8
"""So many times fewer objects of 1 MiB than of 4 KiB."""


def measure(plan: Plan) -> list[Row]:
    """Return 4 KiB, 1 MiB and a large object, each up and down."""
    require_space(plan.folder, (plan.runs + 3) * plan.transfer_size)
    load_core, core = cores()
    with ExitStack() as stack:
        server = stack.enter_context(s3_server(plan, "privacy"))
        if server is None:
            return []
        modules = {OURS: "storage_gateway", PEER: "bench.null_sealer"}
        servers = {
            side: stack.enter_context(
                gateway_of(module, core, plan.folder / f"privacy-{number}", on(server.backend()))
            )
            for number, (side, module) in enumerate(modules.items())
        }
        stack.enter_context(pinned(load_core))
        return [
            *_several(plan, servers, small.SIZE, plan.small_count),
            *_several(plan, servers, MIB, plan.small_count // COUNT_PART),
            *_large(plan, server, servers),
        ]


def _several(plan: Plan, servers: dict[str, GatewayServer], size: int, count: int) -> list[Row]:
    shown = f"{size >> 10} KiB" if size < MIB else f"{size >> 20} MiB"
    names = {side: stored(each, size, AT_ONCE)[0] for side, each in servers.items()}
    rows: list[Row] = []
    for what in ("upload", "plaintext fetch"):
        sides = {
            side: Requests(
                each,
                upload_to(each, size) if what == "upload" else fetch_from(names[side], PLAINTEXT),
                AT_ONCE,
                count,
            )
            for side, each in servers.items()
        }
        rows.append(small.row_of(plan, f"privacy, S3 {shown} {what}, {AT_ONCE} at once", sides))
    return rows


def _large(plan: Plan, server: S3Server, servers: dict[str, GatewayServer]) -> list[Row]:
    body = made_up(plan.transfer_size)
    sides = {side: Gateway(each, body) for side, each in servers.items()}
    name = f"privacy, S3 upload {plan.transfer_size >> 20} MiB"
    uploads = {side: Watched(server, each.upload, each.forget) for side, each in sides.items()}
    rows = [_row(plan, name, len(body), uploads)]
    for each in sides.values():
        each.upload()
    name = f"privacy, S3 plaintext download {plan.transfer_size >> 20} MiB"
    downloads = {side: Watched(server, each.download) for side, each in sides.items()}
    return [*rows, _row(plan, name, len(body), downloads)]


def _row(plan: Plan, name: str, size: int, sides: dict[str, Watched]) -> Row:
    walls = walls_of(plan, name, sides)
    return Row(
        name,
        "MB/s",
        rate_of(walls[OURS], size / 1e6),
        PEER,
        rate_of(walls[PEER], size / 1e6),
        cpu=(sides[OURS].cpu_per_gib(size).median, sides[PEER].cpu_per_gib(size).median),
        cpu_unit=CPU_UNIT,
        beside=shown_shares(sides[OURS], sides[PEER]),
    )
