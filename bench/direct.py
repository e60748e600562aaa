"""The gateway's S3 client without a gateway: `python -m bench.direct`, asked over pipes.

It puts and gets the blobs that a gateway would have, from memory, as many at a time as the gateway
has under way, by the same requests. Nothing is sealed, spooled or recorded. The first line on stdin
are the server's settings. Then one JSON object a line, a `Batch`, is answered by
`{"requests": …, "wall_s": …, "cpu_s": …}`.
"""

import asyncio
import json
import resource
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from crypto import LEAF_SIZE, SEGMENT_SIZE, Secret
from storage_gateway.backends.s3_client import Request, S3Client, S3Settings
from storage_gateway.backends.s3_signature import Credentials
from storage_gateway.cli.process import prepare_process
from storage_gateway.read import LEAVES_IN_RUN

from .figures import made_up

RANGE_SIZE = LEAVES_IN_RUN * LEAF_SIZE
BODIES_MAX = 16
"""Different ones. All together they are larger than a cache of the processor."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Payloads to put or get. Each is cut as a gateway cuts it."""

    work: str
    """`put` or `get`."""
    bucket: str
    count: int
    payload_size: int
    at_once: int
    """Requests under way."""
    first: int = 0
    """The number of the first payload."""
    in_rounds: bool = False
    """Nothing is begun before all that is under way is answered, as by `bench.small.Requests`."""


def blobs(batch: Batch) -> list[tuple[str, int]]:
    """Return key and size of each blob of the batch."""
    return [
        (f"{batch.first + number}/{start // SEGMENT_SIZE}", size)
        for number in range(batch.count)
        for start in range(0, batch.payload_size, SEGMENT_SIZE)
        for size in [min(SEGMENT_SIZE, batch.payload_size - start)]
    ]


def requests(batch: Batch, bodies: dict[int, list[bytes]]) -> list[Request]:
    """Return what the batch asks for; bodies of each size are made once."""
    asked: list[Request] = []
    for number, (key, size) in enumerate(blobs(batch)):
        if batch.work == "put":
            made = bodies.setdefault(size, [])
            if len(made) < BODIES_MAX:
                made.append(made_up(size))
            asked.append(Request(method="PUT", key=key, body=made[number % len(made)]))
            continue
        for start in range(0, size, RANGE_SIZE):
            wanted = min(RANGE_SIZE, size - start)
            asked.append(
                Request(method="GET", key=key, byte_range=(start, wanted), answer_bytes_max=wanted)
            )
    return asked


async def send_all(client: S3Client, asked: list[Request], batch: Batch) -> None:
    """Send all requests, some at a time; see that each was answered in full."""
    size = batch.at_once if batch.in_rounds else len(asked)
    for start in range(0, len(asked), size):
        await send(client, asked[start : start + size], batch.at_once)


async def send(client: S3Client, asked: list[Request], at_once: int) -> None:
    """Send requests, so many at a time, the next one as soon as one is answered."""
    waiting = iter(asked)

    async def work() -> None:
        for request in waiting:
            answer = await client.call(request)
            wanted = request.byte_range[1] if request.byte_range else 0
            assert request.body is not None or len(answer.body) == wanted

    async with asyncio.TaskGroup() as group:
        for _ in range(at_once):
            group.create_task(work())


async def run(batch: Batch, settings: dict[str, str], bodies: dict[int, list[bytes]]) -> None:
    """Do a batch; print what it took."""
    asked = requests(batch, bodies)
    client = S3Client(
        S3Settings(
            name="direct",
            endpoint=settings["endpoint"],
            region="us-east-1",
            bucket=batch.bucket,
            credentials=Credentials(
                access_key=settings["access_key"],
                secret_key=Secret(settings["secret_key"].encode()),
            ),
        ),
        clock=lambda: datetime.now(UTC),
    )
    try:
        before, began = _cpu_s(), time.perf_counter()
        await send_all(client, asked, batch)
        wall_s, cpu_s = time.perf_counter() - began, _cpu_s() - before
    finally:
        await client.close()
    print(json.dumps({"requests": len(asked), "wall_s": wall_s, "cpu_s": cpu_s}), flush=True)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Answer until stdin ends."""
    prepare_process("error")  # as the gateway does: it keeps freed memory, for one
    settings = json.loads(sys.stdin.readline())
    bodies: dict[int, list[bytes]] = {}
    for line in sys.stdin:
        asyncio.run(run(Batch(**json.loads(line)), settings, bodies))


if __name__ == "__main__":
    main()
