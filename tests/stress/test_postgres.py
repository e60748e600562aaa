"""Goal: a run on a deployment whose catalog is in PostgreSQL works in that database, in a schema of
its own; it needs a right, and says so; nobody but the run's processes learns the password.
Method: real gateways on a real server, as a superuser and as a role without rights.
"""

import json
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from storage_gateway.database_url import parse_database_url
from storage_gateway.stress.orders import Spec
from tests.databases import ON_POSTGRESQL, databases
from tests.gateway import (
    GatewayProcess,
    RunningGateway,
    eventually,
    gateway_process,
    running_gateway,
)
from tests.servers.postgres import PostgresServer
from tests.stress.runs import ask, carried_out, ended, failed, show, start

pytestmark = ON_POSTGRESQL

LONG_S = 60.0


async def _has_stored(gateway: RunningGateway, run_id: str) -> bool:
    return bool((await show(gateway, run_id))["progress"].get("acknowledged"))


async def test_a_run_works_in_a_schema_of_its_own(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=LONG_S)
        await eventually(lambda: _has_stored(gateway, run["id"]), what="a stored object")
        schemas = databases.schemas(gateway.data_dir)
        select = "SELECT DISTINCT session_id FROM"
        in_schema = databases.query(gateway.data_dir, f"{select} stress_{run['id']}.sessions")
        beside = databases.query(gateway.data_dir, f"{select} public.sessions")
        files = [path.name for path in (gateway.data_dir / "stress" / run["id"]).iterdir()]
        await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")
        await ended(gateway, run["id"])

        assert [f"stress_{run['id']}"] == schemas
        assert [("stress",)] == in_schema
        assert [(f"stress.{run['id']}",)] == beside
        assert [] == [name for name in files if "sqlite" in name]
        assert [] == databases.schemas(gateway.data_dir)


async def test_a_schema_that_vanished_does_not_keep_a_run_from_its_end(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        run = await start(gateway, "tiny-objects", duration_s=LONG_S)
        await eventually(lambda: _has_stored(gateway, run["id"]), what="a stored object")
        databases.query(gateway.data_dir, f"ALTER SCHEMA stress_{run['id']} RENAME TO elsewhere")
        await ask(gateway, "DELETE", f"/v1/stress/runs/{run['id']}")

        assert "fail" == (await ended(gateway, run["id"]))["verdict"]
        assert not (gateway.data_dir / "stress").exists()


@asynccontextmanager
async def _as_plain_role(
    tmp_path: Path, postgres: PostgresServer
) -> AsyncIterator[tuple[RunningGateway, str, str]]:
    """Run a gateway as a role that owns its tables and nothing else; its name and its database."""
    role, password = f"plain_{secrets.token_hex(4)}", secrets.token_hex(8)
    name = postgres.new_database()
    postgres.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{password}'")
    postgres.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}", name)
    secret = tmp_path / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    url = f"postgresql://{role}@127.0.0.1:{postgres.port}/{name}"
    settings = {"catalog_url": url, "catalog_password_file": str(secret)}
    async with running_gateway(tmp_path, enable_stress=True, **settings) as gateway:
        yield gateway, role, name


async def test_a_role_without_the_right_is_told_which_one(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    async with _as_plain_role(tmp_path, postgres) as (gateway, role, name):
        answer = await ask(gateway, "POST", "/v1/stress/tiny-objects", {"duration_s": 0.1})
        problem = answer.problem(500, "stress_schema_refused")
        rows = postgres.execute("SELECT count(*) FROM stress_runs", name)
        postgres.execute(f'GRANT CREATE ON DATABASE "{name}" TO {role}')
        run = await carried_out(gateway, "crash-after-commit", duration_s=0.1, clients=1)

    assert f'GRANT CREATE ON DATABASE "{name}"' in problem["detail"]
    assert [(0,)] == rows
    assert {} == failed(run)


async def test_the_password_is_told_through_the_pipe_alone(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    async with gateway_process(data_dir, enable_stress=True) as gateway:
        assert databases.server is not None
        password = databases.server.password
        run = await start(gateway, "paused-process", duration_s=LONG_S)
        pid, *_ = await eventually(lambda: _children_of(gateway), what="a process of the run")
        # Seen before the run's own gateway has answered, it may be between fork and exec.
        await eventually(lambda: _serves(data_dir, run["id"]), what="a process that serves")
        shown = _shown_by_the_system(pid)
        files = [path for path in (data_dir / "stress").rglob("*") if path.is_file()]
        written = {path.name: path.read_text(errors="replace") for path in files}
        report = json.dumps(await show(gateway, run["id"]))

    assert b"storage_gateway" in b"".join(shown)
    assert "children.log" in written
    log = gateway.log.read_text()
    for text in (*written.values(), log, report, b"".join(shown).decode(errors="replace")):
        assert password not in text


def _shown_by_the_system(pid: int) -> Sequence[bytes]:
    return [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]


async def _children_of(gateway: GatewayProcess) -> list[int]:
    pid = gateway.process.pid
    listed = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in listed.read_text(encoding="ascii").split()]


async def _serves(data_dir: Path, run_id: str) -> bool:
    """Tell whether two gateways have a lease in the run's schema: one is the process."""
    leases = databases.query(data_dir, f"TABLE stress_{run_id}.instances")
    return len(leases) == 2


def test_an_order_shows_no_password() -> None:
    spec = Spec(
        run_id="r",
        deployment_id="d",
        config=b"{}",
        seed=1,
        parent_pid=1,
        database=parse_database_url("postgresql://u:geheim@db/c"),
    )

    assert "geheim" not in repr(spec)


async def test_a_name_that_the_server_cannot_hold_is_not_found(tmp_path: Path) -> None:
    async with running_gateway(tmp_path, enable_stress=True) as gateway:
        for method, path in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
            answer = await ask(gateway, method, f"/v1/stress/runs/a%00b{path}")
            answer.problem(404, "not_found")
