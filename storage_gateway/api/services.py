"""What the handlers work with, in one typed place."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aiohttp import web

from storage_gateway.blind import BlindCustody
from storage_gateway.blocks import Blocks
from storage_gateway.bringing import Bringing
from storage_gateway.catalog import Catalog
from storage_gateway.config import Config
from storage_gateway.erase import Erasure
from storage_gateway.holds import Holds
from storage_gateway.jobs import Jobs
from storage_gateway.late import LateUploads
from storage_gateway.metrics import Metrics
from storage_gateway.read import Reads
from storage_gateway.readiness import Readiness
from storage_gateway.registry import Registry
from storage_gateway.sessions import Sessions
from storage_gateway.stress import Stress
from storage_gateway.upkeep import Upkeep
from storage_gateway.write import Uploads


class UnderWay:
    """Counts the requests being answered, so that a stop can wait for them."""

    def __init__(self) -> None:
        """None is under way yet."""
        self._count = 0
        self._none = asyncio.Event()
        self._none.set()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count one request for as long as it takes."""
        self._count += 1
        self._none.clear()
        try:
            yield
        finally:
            self._count -= 1
            if self._count == 0:
                self._none.set()

    async def wait_none(self) -> None:
        """Wait until no request is under way."""
        await self._none.wait()


@dataclass(slots=True)
class Services:
    """The use cases of one gateway process."""

    config: Config
    catalog: Catalog
    sessions: Sessions
    registry: Registry
    jobs: Jobs
    uploads: Uploads
    blind: BlindCustody
    late: LateUploads
    reads: Reads
    erasure: Erasure
    holds: Holds
    bringing: Bringing
    upkeep: Upkeep
    check_ready: Callable[[], Awaitable[Readiness]]
    metrics: Metrics
    stress: Stress | None = None
    """None in the gateway of a stress run."""
    blocks: Blocks | None = None
    """None unless ``serve_ipfs`` is set."""
    draining: bool = False
    under_way: UnderWay = field(default_factory=UnderWay)


SERVICES = web.AppKey("services", Services)
REQUEST_ID = web.RequestKey("request_id", str)
FOR_ANYBODY = web.RequestKey("for_anybody", bool)
"""There when the path asks for no token: who calls is a stranger."""
EXPECTATION = web.RequestKey("expectation", str)
"""What the Expect header asks for; there only when it was sent."""
UNSPOKEN_VERSION = web.RequestKey("unspoken_version", str)
"""The version of HTTP that was asked for; there only when it is not spoken here."""
