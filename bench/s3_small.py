"""4 KiB in a bucket, against the S3 client alone, counted in the requests that the server did."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from crypto import sealed_size

from .direct import Batch
from .figures import Row, Sample
from .plan import Plan
from .s3_server import S3Server
from .s3_sides import Direct, Taken
from .s3_watch import Watched, saturated, shown_shares, walls_of
from .servers import PLAINTEXT, GatewayServer
from .small import AT_ONCE, SIZE, Requests, fetch_from, stored, upload_to

RATIO_MIN = 0.4
"""Of the client alone, in puts."""


@dataclass(slots=True)
class Counted:
    """Objects up or down, and the requests to S3 that they took."""

    take: Callable[[], tuple[Taken, int]]
    requests: list[int] = field(default_factory=list)

    def work(self) -> Taken:
        """Do it once."""
        taken, count = self.take()
        self.requests.append(count)
        return taken

    def rate(self, seconds: Sample) -> Sample:
        """Return requests a second, run by run."""
        pairs = zip(self.requests, seconds.values, strict=True)
        return Sample(tuple(count / s if s else 0.0 for count, s in pairs))


def measure_small(
    plan: Plan, server: S3Server, ours: GatewayServer, bucket: str, alone: Direct
) -> list[Row]:
    """Return puts and gets a second, in rounds of sixteen, of as many different objects."""
    count = max(plan.small_count // AT_ONCE, 1) * AT_ONCE
    names, _ = stored(ours, count=count)
    firsts = itertools.count(0, count)
    payload = partial(
        Batch,
        bucket=alone.bucket,
        count=count,
        payload_size=sealed_size(SIZE),
        at_once=AT_ONCE,
        in_rounds=True,
    )
    rows: list[Row] = []
    for what, method, ask, batch in (
        (
            "upload",
            "PUT",
            upload_to(ours),
            lambda: payload("put", first=next(firsts)),
        ),
        (
            "plaintext fetch",
            "GET",
            fetch_from(names, PLAINTEXT),
            lambda: payload("get"),
        ),
    ):
        requests = Requests(ours, ask, AT_ONCE, count)
        both = {
            "gateway": Counted(partial(_through_gateway, server, bucket, method, requests)),
            alone.name: Counted(partial(_alone, alone, batch)),
        }
        sides = {side: Watched(server, each.work) for side, each in both.items()}
        name = f"S3 4 KiB {what}, {AT_ONCE} at once"
        walls = walls_of(plan, name, sides)
        rates = {side: both[side].rate(wall) for side, wall in walls.items()}
        cpu = [both[side].rate(Sample(tuple(each.cpu_s))).median for side, each in sides.items()]
        cost = Sample(tuple(each / len(requests.answers) for each in both["gateway"].requests))
        unit = f"{method.lower()}s"
        rows.append(
            Row(
                name,
                f"{unit}/s",
                rates["gateway"],
                alone.name,
                rates[alone.name],
                ratio_min=RATIO_MIN if method == "PUT" else None,
                cpu=(cpu[0], cpu[1]),
                cpu_unit=f"{unit}/CPU s",
                saturated=saturated(sides["gateway"]),
                beside=f"{cost.median:.2f} {unit} an object; {shown_shares(*sides.values())}",
            )
        )
    return rows


def _through_gateway(
    server: S3Server, bucket: str, method: str, requests: Requests
) -> tuple[Taken, int]:
    before = server.seaweedfs.requests(bucket, method)
    rate = requests.measure()
    count = len(requests.answers)
    taken = Taken(count / rate, requests.cpu_s[-1])
    return taken, server.seaweedfs.requests(bucket, method) - before


def _alone(alone: Direct, batch: Callable[[], Batch]) -> tuple[Taken, int]:
    answer = alone.ask(batch())
    return Taken(answer["wall_s"], answer["cpu_s"]), int(answer["requests"])
