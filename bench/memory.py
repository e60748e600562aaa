"""Peak memory of the gateway process over its idle peak (VmHWM), for one upload, for one download.

Each is measured on a freshly started process, since a peak never comes down.
"""

import json
import os

from .figures import MIB, Row, Sample
from .machine import cores, pinned, require_space
from .plan import Plan
from .servers import SEALED, gateway
from .thin import Connection

OVER_IDLE_MAX_MIB = 64.0


def measure(plan: Plan) -> list[Row]:
    """Return peak over idle of a large upload and of its sealed download, in MiB."""
    require_space(plan.folder, plan.memory_size)
    load_core, server_core = cores()
    data_dir = plan.folder / "memory"
    size = plan.memory_size
    with gateway(server_core, data_dir) as server, pinned(load_core):
        idle = server.peak_memory()
        with Connection(server.url, server.token) as connection:
            answer = json.loads(connection.upload(server.slot("1"), os.urandom(MIB), size))
        upload = _row(plan, "upload", idle, server.peak_memory())
    with gateway(server_core, data_dir) as server, pinned(load_core):
        idle = server.peak_memory()
        with Connection(server.url, server.token) as connection:
            connection.download(f"/v1/objects/{answer['urn']}", SEALED)
        download = _row(plan, "sealed download", idle, server.peak_memory())
        server.erase(answer["urn"])
    return [upload, download]


def _row(plan: Plan, what: str, idle: int, peak: int) -> Row:
    over = (peak - idle) / MIB
    plan.say(f"memory, {what}: idle {idle / MIB:.1f} MiB, peak {peak / MIB:.1f} MiB")
    name = f"peak memory over idle ({idle / MIB:.0f} MiB), {what} {plan.memory_size >> 20} MiB"
    return Row(name, "MiB", Sample((over,)), ours_max=OVER_IDLE_MAX_MIB)
