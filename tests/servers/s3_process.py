"""An S3 server of the tests of which nothing but the S3 API is used, on one port, without TLS."""

import secrets
import shutil
import tempfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import TypeVar

from .s3 import HOST, Buckets, free_ports
from .server_process import ServerProcess

Kind = TypeVar("Kind", bound="S3Process")


@dataclass(slots=True)
class S3Process(ServerProcess):
    """One server and its one user."""

    access_key: str
    secret_key: str = field(repr=False)
    port: int = 0

    @abstractmethod
    def prepare(self) -> None:
        """Make what it keeps its objects in, and its user, once."""

    @property
    def endpoint(self) -> str:
        """The URL of the S3 API."""
        return f"http://{HOST}:{self.port}"

    @property
    def buckets(self) -> Buckets:
        """What is in it."""
        return Buckets(self.port, self.access_key, self.secret_key)

    def _choose_ports(self) -> None:
        (self.port,) = free_ports(1)

    def _answers(self) -> bool:
        try:
            status, _ = self.buckets.ask("GET", "/")
        except OSError:
            return False
        return status == HTTPStatus.OK

    def new_bucket(self) -> str:
        """Make an empty bucket; return its name."""
        return self.buckets.make()

    def drop(self, bucket: str) -> None:
        """Remove a bucket and all that is in it."""
        self.buckets.drop(bucket)

    def truncate(self, bucket: str, key: str, size: int) -> None:
        """Cut a stored object short."""
        self.buckets.truncate(bucket, key, size)


@contextmanager
def running(kind: type[Kind], name: str) -> Iterator[Kind]:
    """Run a server of a kind until the end of the block; its files vanish with it."""
    folder = Path(tempfile.mkdtemp(prefix=f"gateway-{name}-"))
    server = kind(folder, secrets.token_hex(8), secrets.token_hex(16))
    try:
        server.prepare()
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)
