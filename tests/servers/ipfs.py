"""The tests' own IPFS node: js-ipfs, which speaks Kubo's RPC, in one process, on free loopback
ports, its repo in a folder of its own. It has no peers and looks for none. Can be killed and
started again on the same ports and repo, and blocks can be spoilt below its API.

It is not Kubo, of which no package has the server. Where the two differ, tests/contract/
test_ipfs_rpc.py says so.
"""

import base64
import http.client
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from tests.interop.node_modules import HOW, node_home
from tests.requirements import need
from urn.cid import CID

from .s3 import HOST, free_ports
from .server_process import ServerProcess

SCRIPTS = Path(__file__).parent / "ipfs_node"
DAEMON = "daemon.mjs"
ANSWERS_WITHIN_S = 20
MULTIHASH_AT = 2
"""Bytes of a CID before it: version and codec."""


@dataclass(slots=True)
class IpfsNode(ServerProcess):
    """One node."""

    waits: bool = False
    """Whether a block that is not there is waited for, as if a peer might bring it."""
    port: int = field(default=0, init=False)
    gateway_port: int = field(default=0, init=False)

    @property
    def api(self) -> str:
        """The URL below which the calls of the RPC are."""
        return f"http://{HOST}:{self.port}/api/v0"

    @property
    def gateway(self) -> str:
        """The URL below which `/ipfs/<cid>` is."""
        return f"http://{HOST}:{self.gateway_port}"

    @property
    def repo(self) -> Path:
        """The folder that holds all that it keeps."""
        return self.folder / "repo"

    def _choose_ports(self) -> None:
        self.port, self.gateway_port = free_ports(2)

    def _command(self) -> list[str]:
        # It is refreshed while a node runs and believed for 20 s after a crash, which the one
        # process that ever had this repo cannot have outlived.
        shutil.rmtree(self.repo / "repo.lock", ignore_errors=True)
        missing = "waits" if self.waits else "refuses"
        ports = [str(self.port), str(self.gateway_port)]
        return [need("node", HOW), DAEMON, str(self.repo), *ports, missing]

    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.folder)}

    def _answers(self) -> bool:
        try:
            status, _ = self.ask("id")
        except OSError:
            return False
        return status == HTTPStatus.OK

    def ask(
        self,
        call: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        method: str = "POST",
        within_s: float = ANSWERS_WITHIN_S,
    ) -> tuple[int, bytes]:
        """Return the status and body of a call: its name and query, as ``block/get?arg=<cid>``.

        Raises OSError where the node is silent for so many seconds, or breaks off.
        """
        with closing(http.client.HTTPConnection(HOST, self.port, timeout=within_s)) as node:
            try:
                node.request(method, f"/api/v0/{call}", body, dict(headers or {}))
                with node.getresponse() as answer:
                    return answer.status, answer.read()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error

    def gc(self) -> list[CID]:
        """Remove what no pin holds; return what was removed, which is named as if all were raw."""
        lines = self._told("repo/gc").splitlines()
        return [CID.parse(json.loads(line)["Key"]["/"]) for line in lines]

    def pins(self, kind: str = "recursive") -> set[str]:
        """Return the CIDs of the pins of a kind: ``recursive``, ``direct`` or ``indirect``."""
        answer = self._told(f"pin/ls?type={kind}&cid-base=base32")
        return set(json.loads(answer)["Keys"])

    def clear(self) -> None:
        """Remove every pin and every block."""
        for cid in self.pins("recursive") | self.pins("direct"):
            self._told(f"pin/rm?arg={cid}")
        self.gc()

    def _told(self, call: str) -> bytes:
        status, answer = self.ask(call)
        assert status == HTTPStatus.OK, (call, status, answer)
        return answer

    def block_file(self, cid: CID) -> Path:
        """Return where the one copy of a block is, or would be: by its hash, as Kubo has it."""
        name = base64.b32encode(cid.bytes[MULTIHASH_AT:]).decode().rstrip("=")
        return self.repo / "blocks" / name[-3:-1] / f"{name}.data"


@contextmanager
def ipfs_node(*, waits: bool = False) -> Iterator[IpfsNode]:
    """Run a node until the end of the block; its files vanish with it."""
    home = node_home(SCRIPTS)
    folder = Path(tempfile.mkdtemp(prefix="gateway-ipfs-"))
    # A script finds packages from where it lies.
    (folder / "node_modules").symlink_to(home / "node_modules")
    shutil.copy(SCRIPTS / DAEMON, folder)
    node = IpfsNode(folder, waits=waits)
    try:
        node.start()
        yield node
    finally:
        node.close()
        shutil.rmtree(folder)
