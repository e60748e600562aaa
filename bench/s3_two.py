"""Two backends behind slow links against one: a payload goes to both at the same time.

Once with links that a core and a half of S3 server, proxies and load may be too slow for, and once
with slower ones, where nothing but the links is the limit.
"""

import time
from contextlib import ExitStack
from dataclasses import dataclass

from .figures import MIB, Row, made_up
from .machine import cores, pinned
from .plan import Plan
from .s3_server import S3Server, cheap_server, on
from .s3_sides import Gateway
from .s3_watch import CPU_UNIT, Watched, saturated, shown_shares, walls_of
from .servers import Server, gateway, running

RATIO_MAX = 1.3


@dataclass(frozen=True, slots=True)
class SlowLink:
    """What stands before each bucket."""

    mib_per_s: int
    size_part: int
    """So many times less is sent than in the other figures."""


LINKS = (SlowLink(100, 4), SlowLink(20, 8))


def measure_two(plan: Plan, server: S3Server) -> list[Row]:
    """Return seconds of an upload to two buckets, each behind a link of its own, and to one."""
    with cheap_server(plan, "two backends", server) as cheap:
        return [_behind(plan, cheap, link) for link in LINKS]


def _behind(plan: Plan, server: S3Server, link: SlowLink) -> Row:
    load_core, server_core = cores()
    size = plan.transfer_size // link.size_part
    command = ["-m", "bench.slow_link", str(server.port), "3", str(link.mib_per_s)]
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
            folder = plan.folder / f"{name.replace(' ', '-')}-{link.mib_per_s}"
            side = Gateway(stack.enter_context(gateway(server_core, folder, **on(*each))), body)
            sides[name] = Watched(
                server,
                side.upload,
                after=side.forget,
                load_s=lambda: time.process_time() + links.cpu_s(),
            )
        stack.enter_context(pinned(load_core))
        behind = f"behind 20 ms and {link.mib_per_s} MiB/s each"
        title = f"S3 upload {size / MIB:.3g} MiB, two backends {behind}"
        walls = walls_of(plan, title, sides)
    two, one = sides.values()
    return Row(
        title,
        "s",
        walls["two backends"],
        "one backend",
        walls["one backend"],
        ratio_max=RATIO_MAX,
        cpu=(two.cpu_per_gib(size).median, one.cpu_per_gib(size).median),
        cpu_unit=CPU_UNIT,
        saturated=saturated(two),
        beside=shown_shares(two, one),
    )
