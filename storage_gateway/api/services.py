"""What the handlers work with, in one typed place."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from storage_gateway.catalog import Catalog
from storage_gateway.config import Config
from storage_gateway.erase import Erasure
from storage_gateway.read import Reads
from storage_gateway.sessions import Sessions
from storage_gateway.write import Uploads


@dataclass(slots=True)
class Services:
    """The use cases of one gateway process."""

    config: Config
    catalog: Catalog
    sessions: Sessions
    uploads: Uploads
    reads: Reads
    erasure: Erasure
    check_ready: Callable[[], Awaitable[dict[str, str]]]
    """Answers ``ok`` or an error code for each part that must work."""
    draining: bool = False


SERVICES = web.AppKey("services", Services)
REQUEST_ID = web.RequestKey("request_id", str)
