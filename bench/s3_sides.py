"""Who is compared over the S3 server: the gateway, and its S3 client alone. Peers: s3_commands.

Each side uploads one plaintext and downloads it again, and tells what that took. CPU time is that
of the gateway's process (/proc), and of the client's own (getrusage).
"""

import itertools
import json
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from crypto import sealed_size
from storage_gateway.placing import SEGMENTS_UNPLACED_MAX
from storage_gateway.read import RUNS_AHEAD

from .direct import Batch
from .machine import NotMeasurable, cores, pinned
from .s3_server import S3Server
from .servers import PLAINTEXT, GatewayServer
from .thin import Thin

_NUMBERS = itertools.count(1)
"""Of tasks: each upload needs a slot of its own."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What a piece of work took, in seconds."""

    wall_s: float
    cpu_s: float


def timed(cpu_s: Callable[[], float], work: Callable[[], object]) -> Taken:
    """Do the work; return what it took of the wall clock and of a counter of CPU seconds."""
    before, began = cpu_s(), time.perf_counter()
    work()
    return Taken(time.perf_counter() - began, cpu_s() - before)


class S3Side(ABC):
    """One way to keep a plaintext in a bucket."""

    name: str

    @abstractmethod
    def upload(self) -> Taken:
        """Bring the plaintext there."""

    @abstractmethod
    def download(self) -> Taken:
        """Fetch and drop it."""

    @abstractmethod
    def forget(self) -> None:
        """Remove what was uploaded; off the clock."""


class Gateway(S3Side):
    """Our side: the thin client speaks to it; plaintext in, plaintext out."""

    name = "gateway"

    def __init__(self, server: GatewayServer, body: bytes, accept: str = PLAINTEXT) -> None:
        """`body` is the plaintext; `accept` says as what it is fetched."""
        self._server = server
        self._load = Thin(body)
        self._size = len(body)
        self.accept = accept
        self.urn = ""

    def upload(self) -> Taken:
        path = self._server.slot(f"s3_{next(_NUMBERS)}")

        def transfer() -> None:
            answer = json.loads(self._load.upload(self._server.url, path, self._server.token))
            assert answer["size"] == self._size
            self.urn = answer["urn"]

        return timed(self._server.cpu_s, transfer)

    def download(self) -> Taken:
        return timed(self._server.cpu_s, self._fetch)

    def _fetch(self) -> None:
        path, server = f"/v1/objects/{self.urn}", self._server
        assert self._load.download(server.url, path, server.token, self.accept) >= self._size

    def forget(self) -> None:
        self._server.erase(self.urn)


class Direct(S3Side):
    """The client alone; see `bench.direct`. What it moves is as long as the sealed payload."""

    name = "the S3 client alone"

    def __init__(self, process: "subprocess.Popen[str]", server: S3Server, size: int) -> None:
        """`size` is that of the plaintext."""
        self._process = process
        self._server = server
        self._payload_size = sealed_size(size)
        self.bucket = server.new_bucket()

    def ask(self, batch: Batch) -> dict[str, float]:
        """Have a batch done; return what it took. Raises NotMeasurable."""
        asked, answers = self._process.stdin, self._process.stdout
        assert asked is not None
        assert answers is not None
        asked.write(json.dumps(asdict(batch)) + "\n")
        asked.flush()
        line = answers.readline()
        if not line:
            raise NotMeasurable("the S3 client alone broke off; what it said stands above")
        answer: dict[str, float] = json.loads(line)
        return answer

    def upload(self) -> Taken:
        return self._whole("put", SEGMENTS_UNPLACED_MAX)

    def download(self) -> Taken:
        return self._whole("get", RUNS_AHEAD + 1)

    def _whole(self, work: str, at_once: int) -> Taken:
        answer = self.ask(Batch(work, self.bucket, 1, self._payload_size, at_once))
        return Taken(answer["wall_s"], answer["cpu_s"])

    def forget(self) -> None:
        self._server.seaweedfs.drop(self.bucket)
        self.bucket = self._server.new_bucket()


@contextmanager
def direct(server: S3Server, size: int) -> Iterator[Direct]:
    """Run the client alone on the gateway's core."""
    _, core = cores()
    with pinned(core):
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.direct"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(server.login()) + "\n")
            process.stdin.flush()
            yield Direct(process, server, size)
        finally:
            process.kill()
