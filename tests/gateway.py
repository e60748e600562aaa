"""Running gateways for tests: in the test's own event loop, or as a real process.

Shared by every test folder. It only starts, asks and stops; what must hold is said in the tests.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from sqlalchemy import Connection, select

from crypto import X25519Identity
from storage_gateway.app import Gateway
from storage_gateway.backends import KeyedStore, LocalStore
from storage_gateway.catalog import Catalog
from storage_gateway.catalog.tables import deployment, intents, objects, slots
from storage_gateway.client import Client
from storage_gateway.config import load_config
from storage_gateway.custody import OPERATOR_TOKEN_FILE
from storage_gateway.stores import STORE_FOLDER
from tests.databases import databases
from tests.overheard import overheard

T = TypeVar("T")

MINER = "0x00000000000000000000000000000000000000a1"
OTHER_MINER = "0x00000000000000000000000000000000000000b2"
REPOSITORY = Path(__file__).resolve().parent.parent

DEADLINE_S = 20.0
"""How long a test waits for what must come; a test that is well never waits this long."""
START_S = 60.0
"""As that, for a process to start: several at once on a busy machine take their time."""
POLL_S = 0.01

QUICK: dict[str, object] = {
    "recovery_interval_s": 0.1,
    "late_write_horizon_s": 0.2,
    "body_idle_s": DEADLINE_S,
    "memory_wait_s": 0.3,
    "drain_s": 5,
    "instance_renew_s": 1,
    "instance_lease_s": 10,
}
"""Settings that keep tests short; every one can be overridden.

Bodies wait as long as tests do: a busy machine may send nothing for seconds.
"""


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """A gateway in the test's event loop."""

    gateway: Gateway
    data_dir: Path
    operator_token: str = field(repr=False)

    @property
    def url(self) -> str:
        """The base URL."""
        return self.gateway.url

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for raw sockets."""
        return address_of(self.url)

    @property
    def catalog(self) -> Catalog:
        """The gateway's own catalog."""
        return self.gateway.services.catalog

    @property
    def store(self) -> LocalStore:
        """The gateway's own store."""
        store = self.gateway.parts.members[0].bare
        assert isinstance(store, LocalStore)
        return store


@dataclass(frozen=True, slots=True)
class GatewayProcess:
    """A gateway as a process of its own; its log is in ``log``."""

    url: str
    data_dir: Path
    operator_token: str = field(repr=False)
    process: "subprocess.Popen[str]" = field(repr=False)
    log: Path

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for raw sockets."""
        return address_of(self.url)

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the process."""
        self.process.send_signal(number)

    async def wait(self, within_s: float = DEADLINE_S) -> int:
        """Return the exit code once the process has ended."""
        return await asyncio.to_thread(self.process.wait, within_s)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session with what each of its parties holds."""

    session_id: str
    router_recipient: str
    user_token: str = field(repr=False)
    miner_token: str = field(repr=False)
    other_miner_token: str = field(repr=False)
    user: X25519Identity = field(repr=False)
    miner: X25519Identity = field(repr=False)
    other_miner: X25519Identity = field(repr=False)

    def path(self, task_id: str, direction: str = "input") -> str:
        """Return the path of a slot."""
        return f"/v1/sessions/{self.session_id}/tasks/{task_id}/{direction}"


def address_of(url: str) -> tuple[str, int]:
    """Return host and port of a base URL."""
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 0)


@asynccontextmanager
async def running_gateway(tmp_path: Path, **settings: object) -> AsyncIterator[RunningGateway]:
    """Run a gateway on a free loopback port, its data in ``tmp_path / "data"``.

    A second one on the same path, after the first has ended, is a restart.
    """
    data_dir = tmp_path / "data"
    options = QUICK | {"data_dir": data_dir} | settings
    gateway = Gateway(
        load_config(file=None, environment=databases.environment(data_dir), options=options)
    )
    await gateway.start()
    try:
        token = (data_dir / OPERATOR_TOKEN_FILE).read_text().strip()
        yield RunningGateway(gateway, data_dir, token)
    finally:
        await gateway.stop()


@asynccontextmanager
async def gateway_process(
    data_dir: Path, *, module: object = "storage_gateway", **settings: object
) -> AsyncIterator[GatewayProcess]:
    """Run ``python -m storage_gateway serve``; it is told to stop, then killed, at the end.

    ``module`` is run instead of the program: one that does something to it first. The log (stderr)
    goes to a file beside ``data_dir``.
    """
    async with starting_process(data_dir, module=module, **settings) as process:
        log = log_beside(data_dir)
        url = await _first_line(process)
        if not url:
            raise AssertionError(f"the gateway did not start: {log.read_text()[-2000:]}")
        token = (data_dir / OPERATOR_TOKEN_FILE).read_text().strip()
        yield GatewayProcess(url, data_dir, token, process, log)


def log_beside(data_dir: Path) -> Path:
    """Return where the processes of a data folder log to."""
    return data_dir.with_name(f"{data_dir.name}.log")


@asynccontextmanager
async def starting_process(
    data_dir: Path, *, module: object = "storage_gateway", **settings: object
) -> AsyncIterator["subprocess.Popen[str]"]:
    """As `gateway_process`, and do not wait until it is ready."""
    options = QUICK | settings
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    environment |= {f"GATEWAY_{name.upper()}": str(value) for name, value in options.items()}
    environment |= await asyncio.to_thread(databases.environment, data_dir)
    command = [sys.executable, "-m", str(module), "serve", "--data-dir", str(data_dir)]
    with log_beside(data_dir).open("ab") as log_file:
        begins = log_file.tell()
        process = await asyncio.to_thread(
            subprocess.Popen,
            command,
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            cwd=REPOSITORY,
            env=environment,
        )
    try:
        yield process
    finally:
        await asyncio.to_thread(_end, process)
        overheard.hear(log_beside(data_dir).read_bytes()[begins:])


async def _first_line(process: "subprocess.Popen[str]") -> str:
    if process.stdout is None:
        return ""
    try:
        async with asyncio.timeout(START_S):
            return (await asyncio.to_thread(process.stdout.readline)).strip()
    except TimeoutError:
        process.kill()
        raise


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(DEADLINE_S)
    if process.stdout is not None:
        process.stdout.close()


async def open_session(
    gateway: RunningGateway | GatewayProcess, session_id: str | None = None, **wanted: object
) -> OpenSession:
    """Open a session with fresh identities: a user and two miners, `MINER` and `OTHER_MINER`.

    ``wanted`` is further members of the document: what it wants of the stores.
    """
    user, miner, other_miner = (X25519Identity.generate() for _ in range(3))
    document: dict[str, Any] = {
        "custody": "router",
        "parties": {
            "user": {"recipient": str(user.recipient())},
            "miners": [
                {"id": MINER, "recipient": str(miner.recipient())},
                {"id": OTHER_MINER, "recipient": str(other_miner.recipient())},
            ],
        },
        **wanted,
    }
    if session_id is not None:
        document["session_id"] = session_id
    async with Client(gateway.url, gateway.operator_token) as client:
        answer = await client.open_session(document)
    return OpenSession(
        session_id=answer["session_id"],
        router_recipient=answer["parties"]["router"]["recipient"],
        user_token=answer["tokens"]["user"],
        miner_token=answer["tokens"]["miners"][MINER],
        other_miner_token=answer["tokens"]["miners"][OTHER_MINER],
        user=user,
        miner=miner,
        other_miner=other_miner,
    )


async def eventually(
    check: Callable[[], Awaitable[T]], *, within_s: float = DEADLINE_S, what: str = "it"
) -> T:
    """Ask until the answer is true, and return it; fail when the time is over."""
    answer = await check()
    try:
        async with asyncio.timeout(within_s):
            while not answer:
                await asyncio.sleep(POLL_S)
                answer = await check()
    except TimeoutError:
        raise AssertionError(f"{what} did not come true in {within_s:g} seconds") from None
    return answer


def open_catalog(data_dir: Path) -> Catalog:
    """Open the catalog of a gateway that is not running (or beside one that is)."""
    return databases.open(data_dir)


def open_store(data_dir: Path) -> LocalStore:
    """Open the store of a data folder."""
    return LocalStore(data_dir / STORE_FOLDER)


async def payload_keys(catalog: Catalog, store: KeyedStore) -> list[str]:
    """Return the keys of all blobs that belong to payloads, whoever needs them."""
    deployment_id = await catalog.read(
        lambda c: c.execute(select(deployment.c.deployment_id)).scalar_one()
    )
    return [blob.key async for blob in store.list(f"{deployment_id}/") if "/payloads/" in blob.key]


async def leftovers(catalog: Catalog, store: KeyedStore) -> list[str]:
    """Return, in words, all that no committed object accounts for: blobs, intents, slots."""
    keys = await payload_keys(catalog, store)

    def unit(connection: Connection) -> list[str]:
        committed = connection.execute(
            select(objects.c.payload_id).where(objects.c.state == "committed")
        )
        needed = {row.payload_id for row in committed}
        known = {row.object_id for row in connection.execute(select(objects.c.object_id))}
        intent_ids = [row.payload_id for row in connection.execute(select(intents.c.payload_id))]
        held = [row.object_id for row in connection.execute(select(slots.c.object_id))]
        return [
            *(f"blob {key}" for key in keys if key.split("/")[-2] not in needed),
            *(f"intent {payload_id}" for payload_id in intent_ids),
            *(f"slot of {object_id}" for object_id in held if object_id not in known),
        ]

    return await catalog.read(unit)


async def store_is_empty(catalog: Catalog, store: KeyedStore) -> bool:
    """Tell whether nothing at all is there: no blob of a payload, no intent, no slot."""
    keys = await payload_keys(catalog, store)

    def unit(connection: Connection) -> bool:
        tables = (intents, slots)
        return all(connection.execute(select(t)).first() is None for t in tables)

    return not keys and await catalog.read(unit)
