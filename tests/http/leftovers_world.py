"""A gateway over a bucket of a real server, what others do to the bucket, and passes by hand."""

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from storage_gateway.backends import Member
from storage_gateway.backends.s3 import S3Store
from storage_gateway.backends.s3_answers import ObjectVersion, read_versions
from storage_gateway.backends.s3_client import S3Settings
from storage_gateway.leftovers import Leftovers
from tests.contract.s3 import now, s3_settings, settings_file
from tests.gateway import OpenSession, RunningGateway, open_session, running_gateway
from tests.servers.s3 import Buckets, S3Server

VERSIONING = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"


@dataclass(frozen=True, slots=True)
class World:
    """The gateway, its bucket, and who else asks the bucket."""

    gateway: RunningGateway
    session: OpenSession
    server: S3Server
    bucket: str
    others: Buckets
    """Somebody with a client of its own."""
    settings: S3Settings
    opened: AsyncExitStack

    @property
    def prefix(self) -> str:
        return f"{self.gateway.gateway.parts.deployment_id}/"

    async def do(
        self, method: str, key: str = "", body: bytes = b"", **query: str
    ) -> tuple[int, bytes]:
        path = f"/{self.bucket}/{key}" if key else f"/{self.bucket}"
        return await asyncio.to_thread(self.others.ask, method, path, body, query)

    async def keep_versions(self) -> None:
        assert (200, b"") == await self.do("PUT", "", VERSIONING, versioning="")

    async def begin_upload(self, key: str) -> None:
        status, _ = await self.do("POST", key, uploads="")
        assert 200 == status

    async def uploads(self) -> list[str]:
        """Return the keys of uploads in parts that are there."""
        _, listing = await self.do("GET", uploads="")
        return re.findall("<Key>([^<]*)</Key>", listing.decode())

    async def versions(self, prefix: str = "") -> list[ObjectVersion]:
        """Return what is kept in the bucket of payloads, or below another prefix."""
        _, listing = await self.do(
            "GET", versions="", prefix=prefix or f"{self.prefix}main/payloads/"
        )
        return list(read_versions(listing))

    async def keys(self) -> list[str]:
        """Return the keys of payloads that are there, whatever is kept of them."""
        return sorted({version.key for version in await self.versions()})

    async def leftovers(
        self, *, page_max: int | None = None, endpoint: str | None = None
    ) -> Leftovers:
        """Return passes as the gateway has them, that ask for so much at a time, elsewhere."""
        parts = self.gateway.gateway.parts
        settings = self.settings if endpoint is None else replace(self.settings, endpoint=endpoint)
        spool = self.gateway.data_dir
        store = S3Store(settings, marker=parts.marker, spool=spool, clock=now)
        self.opened.push_async_callback(store.close)
        store.leftovers.page_max = page_max
        return Leftovers(
            catalog=parts.catalog,
            members=[Member(store, domain="d")],
            threads=self.gateway.gateway._threads,
            prefix=f"{self.prefix}main/",
            deployment_id=parts.deployment_id,
            interval_s=3600.0,
        )


@asynccontextmanager
async def world_over(
    server: S3Server, port: int, path: Path, **options: object
) -> AsyncIterator[World]:
    """Run a gateway over a new bucket of a server."""
    bucket = await asyncio.to_thread(server.new_bucket)
    file = await asyncio.to_thread(settings_file, path, server, bucket)
    config = tomllib.loads(file.read_text())
    settings = {"late_write_horizon_s": 900, "recovery_interval_s": 3600, **config, **options}
    async with running_gateway(path, **settings) as gateway, AsyncExitStack() as opened:
        others = Buckets(port, server.access_key, server.secret_key)
        # What is kept of copies of records is what a test lays there.
        gateway.gateway.upkeep.outbox._members = ()
        session = await open_session(gateway)
        of_store = replace(s3_settings(server, bucket), name="bucket")
        yield World(gateway, session, server, bucket, others, of_store, opened)
