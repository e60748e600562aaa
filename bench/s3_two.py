"""Two backends behind slow links against one: a payload goes to both at the same time."""

import time
from contextlib import ExitStack

from .figures import MIB, Row, made_up
from .machine import cores, pinned
from .plan import Plan
from .s3_server import S3Server, on
from .s3_sides import Gateway
from .s3_watch import CPU_UNIT, Watched, shown_shares, walls_of
from .servers import Server, gateway, running

RATIO_MAX = 1.3
SIZE_PART = 4
"""So many times less is sent than in the other figures: the links are slow."""


def measure_two(plan: Plan, server: S3Server) -> list[Row]:
    """Return seconds of an upload to two buckets, each behind a link of its own, and to one."""
    load_core, server_core = cores()
    size = plan.transfer_size // SIZE_PART
    command = ["-m", "bench.slow_link", str(server.seaweedfs.port), "3"]
    with ExitStack() as stack:
        ports, pid = stack.enter_context(running(command, load_core))
        links = Server("", pid)
        # A link is for one backend: neither gateway is slowed down by what the other one sends.
        first, second, third = map(int, ports.split())
        backends = {
            "two backends": [server.backend("first", first), server.backend("second", second)],
            "one backend": [server.backend("only", third)],
        }
        body = made_up(size)
        sides: dict[str, Watched] = {}
        for name, each in backends.items():
            folder = plan.folder / name.replace(" ", "-")
            side = Gateway(stack.enter_context(gateway(server_core, folder, **on(*each))), body)
            sides[name] = Watched(
                server,
                side.upload,
                after=side.forget,
                load_s=lambda: time.process_time() + links.cpu_s(),
            )
        stack.enter_context(pinned(load_core))
        title = f"S3 upload {size / MIB:.3g} MiB, two backends behind 20 ms and 100 MiB/s each"
        walls = walls_of(plan, title, sides)
    two, one = sides.values()
    return [
        Row(
            title,
            "s",
            walls["two backends"],
            "one backend",
            walls["one backend"],
            ratio_max=RATIO_MAX,
            cpu=(two.cpu_per_gib(size).median, one.cpu_per_gib(size).median),
            cpu_unit=CPU_UNIT,
            beside=shown_shares(two, one),
        )
    ]
