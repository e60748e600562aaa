"""Two ways to drive a gateway step by step: a simulated one, and a real one with a real store, a
real catalog and real connections, all in the caller's hands.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import quote

from sqlalchemy import Connection, select

from crypto import open_file
from storage_gateway.app import Gateway
from storage_gateway.backends import LocalStore
from storage_gateway.catalog import SQLiteCatalog
from storage_gateway.catalog.tables import graves, objects
from storage_gateway.catalog.work import renew_instance
from storage_gateway.config import Config
from storage_gateway.keyring import Keyring
from storage_gateway.parts import Parts
from tests.gateway import leftovers
from tests.http.raw import Answer, connected, exchange, request

from .checks import check_rest, is_busy
from .clients import seal_for
from .deeds import Deed, SlotKey
from .deployment import DEPLOYMENT, ROUTER, Member, prepare
from .history import Climate, History, Simulator
from .node import CONFIG, HORIZON_S, LEASE_S

T = TypeVar("T")

REAL_LEASE_S = 3600.0
REAL_HORIZON_S = 900.0
PASSES_MAX = 5
UPLOAD_S = 0.03
"""About what an upload takes in virtual time."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a client was answered."""

    status: int
    urn: str | None = None
    content: bytes = field(default=b"", repr=False)


class Driver(Protocol):
    """A gateway that one can do things with, and to."""

    sizes: tuple[int, ...]
    second: float
    """What a second of the real settings is here: virtual ones are a hundred times shorter."""

    def upload(self, member: Member, slot: SlotKey, content: bytes, *, sealed: bool) -> Seen:
        """Upload to a slot."""

    def upload_twice(self, member: Member, slot: SlotKey, one: bytes, other: bytes) -> list[Seen]:
        """Upload two bodies to one slot at the same time."""

    def fetch(self, member: Member, urn: str, *, sealed: bool) -> Seen:
        """Read an object."""

    def erase(self, member: Member, urn: str) -> Seen:
        """Erase an object."""

    def list_all(self, member: Member, session_id: str) -> list[str]:
        """List a session's objects, in pages of two."""

    def restart(self) -> None:
        """Stop the gateway in good order and start a new one."""

    def kill(self) -> None:
        """End the gateway without tidying, and start a new one; leases run out meanwhile."""

    def kill_in_upload(self, member: Member, slot: SlotKey, content: bytes, when: float) -> None:
        """As `kill`, in the midst of an upload; ``when`` (0 to 1) says where in it."""

    def recover(self) -> None:
        """Have a recovery pass run."""

    def advance(self, seconds: float) -> None:
        """Let time pass."""

    def states(self) -> dict[str, str]:
        """Return what the catalog says of every object, by its id."""

    def rest(self) -> list[str]:
        """Let recovery finish and the horizon pass; return what is left that should not be."""

    def close(self) -> None:
        """End it."""


class SimulatedDriver:
    """One gateway in virtual time, in fair weather."""

    second = 0.02
    sizes: tuple[int, ...] = (0, 1, 100, 65_535, 65_536, 65_537, 131_071, 131_072, 131_073, 262_145)

    def __init__(self, simulator: Simulator, climate: Climate) -> None:
        """Start it."""
        self._deployment = simulator.deployment(1, climate)
        self._history: History = self._deployment.__enter__()
        self._history.nodes[1:] = []
        self._history.clients.healed = True  # a connection for each request
        self._history.start()

    def _seen(self, deed: Deed) -> Seen:
        return Seen(deed.status, deed.answered_urn, deed.content if deed.is_fetch else b"")

    def upload(self, member: Member, slot: SlotKey, content: bytes, *, sealed: bool) -> Seen:
        """See `Driver`."""
        clients = self._history.clients
        return self._seen(self._history.do(clients.upload(member, slot, content, sealed=sealed)))

    def upload_twice(self, member: Member, slot: SlotKey, one: bytes, other: bytes) -> list[Seen]:
        """See `Driver`."""
        clients = self._history.clients

        async def both() -> list[Deed]:
            uploads = (clients.upload(member, slot, content) for content in (one, other))
            return await asyncio.gather(*uploads)

        return [self._seen(deed) for deed in self._history.do(both())]

    def fetch(self, member: Member, urn: str, *, sealed: bool) -> Seen:
        """See `Driver`."""
        return self._seen(self._history.do(self._history.clients.fetch(member, urn, sealed=sealed)))

    def erase(self, member: Member, urn: str) -> Seen:
        """See `Driver`."""
        return self._seen(self._history.do(self._history.clients.erase(member, urn)))

    def list_all(self, member: Member, session_id: str) -> list[str]:
        """See `Driver`."""
        deed = self._history.do(self._history.clients.list_all(member, session_id, 2))
        assert deed.whole_listing, deed.outcome()
        return list(deed.listing)

    def restart(self) -> None:
        """See `Driver`."""
        (node,) = self._history.nodes
        started = node.starts
        node.drain()
        self._wait(lambda: node.starts > started and node.up)

    def kill(self) -> None:
        """See `Driver`."""
        self._history.nodes[0].kill("killed")
        self._history.start()
        self.advance(LEASE_S)

    def kill_in_upload(self, member: Member, slot: SlotKey, content: bytes, when: float) -> None:
        """See `Driver`."""
        world, clients = self._history.world, self._history.clients
        upload = clients.loop.create_task(clients.upload(member, slot, content))
        # This process, not the one that is started after it, should the upload be done before.
        world.at(UPLOAD_S * when, self._history.nodes[0].process.kill)
        self._wait(upload.done)
        self.kill()

    def recover(self) -> None:
        """See `Driver`."""
        self.advance(CONFIG.recovery_interval_s + 1)

    def advance(self, seconds: float) -> None:
        """See `Driver`."""
        later: list[bool] = []
        self._history.world.at(seconds, lambda: later.append(True))
        self._wait(lambda: bool(later))

    def states(self) -> dict[str, str]:
        """See `Driver`."""
        rows = self._history.database.memory.rows("SELECT object_id, state FROM objects")
        return dict(rows)

    def rest(self) -> list[str]:
        """See `Driver`."""
        self.advance(LEASE_S + HORIZON_S)
        for _ in range(PASSES_MAX):
            if is_busy(self._history.database):
                self.recover()
        return check_rest(self._history.database, self._history.shelf)

    def close(self) -> None:
        """See `Driver`."""
        self._deployment.__exit__(None, None, None)

    def _wait(self, done: Any) -> None:  # noqa: ANN401 - a question without arguments
        self._history.world.run(done, until_s=self._history.world.now + 120)


class RealDriver:
    """A real gateway on a folder, in an event loop that runs only while something is asked of it.

    Its catalog's clock is moved by hand; a killed one stands still for ever, with all it had begun.
    """

    second = 1.0
    sizes: tuple[int, ...] = (0, 1, 65_536, 65_537, 983_039, 983_040, 983_041)

    def __init__(self, path: Path) -> None:
        """Start it."""
        self._path = path
        self._moved_ms = 0
        self._abandoned: list[tuple[asyncio.Runner, Gateway, Parts]] = []
        self._begin()
        self._run(self._parts.catalog.run(prepare))
        self._run(self._parts.store.put(self._parts.marker, b"marker"))

    def _begin(self) -> None:
        self._runner = asyncio.Runner()
        self._parts = Parts(
            catalog=SQLiteCatalog.open(
                self._path / "catalog.sqlite3", clock=lambda ms: ms + self._moved_ms
            ),
            store=LocalStore(self._path / "store"),
            keyring=Keyring.of(ROUTER),
            copies_identity=ROUTER,
            deployment_id=DEPLOYMENT,
        )
        config = Config(
            data_dir=self._path,
            reserve_bytes=0,
            instance_lease_s=REAL_LEASE_S,
            late_write_horizon_s=REAL_HORIZON_S,
            recovery_interval_s=REAL_LEASE_S,
            drain_s=0.2,  # a killed one still holds the upload it was killed in
        )
        self._gateway = Gateway(config, self._parts)
        self._run(self._gateway.start())
        host, port = self._gateway._runner.addresses[0][:2]
        self._address = (str(host), int(port))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)

    async def _ask(
        self,
        member: Member,
        method: str,
        path: str,
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        named = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return await exchange(
            self._address, request(method, path, member.token, headers=named, body=body)
        )

    async def _upload(self, member: Member, slot: SlotKey, content: bytes, *, sealed: bool) -> Seen:
        body = seal_for(slot.session_id, content) if sealed else content
        kind = "application/age" if sealed else "application/octet-stream"
        answer = await self._ask(member, "POST", _path_of(slot), body, Content_Type=kind)
        return Seen(answer.status, answer.json().get("urn"))

    def upload(self, member: Member, slot: SlotKey, content: bytes, *, sealed: bool) -> Seen:
        """See `Driver`."""
        return self._run(self._upload(member, slot, content, sealed=sealed))

    def upload_twice(self, member: Member, slot: SlotKey, one: bytes, other: bytes) -> list[Seen]:
        """See `Driver`."""

        async def both() -> list[Seen]:
            uploads = (self._upload(member, slot, c, sealed=False) for c in (one, other))
            return await asyncio.gather(*uploads)

        return self._run(both())

    def fetch(self, member: Member, urn: str, *, sealed: bool) -> Seen:
        """See `Driver`."""
        accept = "application/age" if sealed else "application/octet-stream"
        answer = self._run(self._ask(member, "GET", f"/v1/objects/{quote(urn)}", Accept=accept))
        content = answer.body
        if answer.status == 200 and sealed:
            content = open_file(answer.body, [member.identity])
        return Seen(answer.status, None, content)

    def erase(self, member: Member, urn: str) -> Seen:
        """See `Driver`."""
        answer = self._run(self._ask(member, "DELETE", f"/v1/objects/{quote(urn)}"))
        return Seen(answer.status, answer.json().get("urn"))

    def list_all(self, member: Member, session_id: str) -> list[str]:
        """See `Driver`."""
        urns, cursor = [], ""
        while True:
            path = f"/v1/sessions/{session_id}/objects?limit=2{cursor}"
            page = self._run(self._ask(member, "GET", path)).json()
            urns += [entry["urn"] for entry in page["objects"]]
            if page["next"] is None:
                return urns
            cursor = f"&cursor={page['next']}"

    def restart(self) -> None:
        """See `Driver`."""
        self._end(self._runner, self._gateway, self._parts)
        self._begin()

    def kill(self) -> None:
        """See `Driver`."""
        self._abandoned.append((self._runner, self._gateway, self._parts))
        self._moved_ms += int(REAL_LEASE_S * 1000) + 1
        self._begin()

    def kill_in_upload(self, member: Member, slot: SlotKey, content: bytes, when: float) -> None:
        """See `Driver`."""

        async def begin() -> None:
            head = request("POST", _path_of(slot), member.token, body=content)
            async with connected(self._address) as connection:
                await connection.send(head[: int(len(head) * when)])
                await asyncio.sleep(0.05 * when)

        self._run(begin())
        self.kill()

    def recover(self) -> None:
        """See `Driver`."""
        self._run(self._gateway.recovery.run_once())

    def advance(self, seconds: float) -> None:
        """See `Driver`."""
        self._moved_ms += int(seconds * 1000)
        instance_id = self._gateway._instance.instance_id
        self._run(self._parts.catalog.run(lambda c: renew_instance(c, instance_id, REAL_LEASE_S)))

    def states(self) -> dict[str, str]:
        """See `Driver`."""

        def unit(connection: Connection) -> dict[str, str]:
            rows = connection.execute(select(objects.c.object_id, objects.c.state))
            return {row.object_id: row.state for row in rows}

        return self._run(self._parts.catalog.read(unit))

    def rest(self) -> list[str]:
        """See `Driver`."""
        self.kill()  # whatever an abandoned process owned is nobody's by then
        for _ in range(PASSES_MAX):
            self.recover()
            self.advance(REAL_HORIZON_S + 1)
        left = self._run(leftovers(self._parts.catalog, self._parts.store))
        waiting = self._run(
            self._parts.catalog.read(lambda c: list(c.execute(select(graves.c.payload_id))))
        )
        return [*left, *(f"grave {row.payload_id}" for row in waiting)]

    def close(self) -> None:
        """See `Driver`."""
        self._abandoned.append((self._runner, self._gateway, self._parts))
        for runner, gateway, parts in self._abandoned:
            self._end(runner, gateway, parts)

    def _end(self, runner: asyncio.Runner, gateway: Gateway, parts: Parts) -> None:
        runner.run(gateway.stop())
        runner.close()
        parts.catalog.close()
        assert isinstance(parts.store, LocalStore)
        parts.store.close()


def _path_of(slot: SlotKey) -> str:
    return f"/v1/sessions/{slot.session_id}/tasks/{slot.task_id}/{slot.direction}"
