"""A PostgreSQL server of the tests' own: started once, on a free loopback port, in a folder of its
own, with a database for each test. Works as root (the server then runs as somebody else) and as a
plain user; can be killed, stopped in its tracks and started again.
"""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from tests.requirements import need

WITHIN_S = 60.0
PORT_TAKEN = "Address already in use"
MEMORY = Path("/dev/shm")
"""Files there outlive the server, killed or not, and syncing them costs nothing."""
MEMORY_FREE_MIN = 4 << 30
"""A container's has 64 MiB by default, and a run's databases and their log take a GiB or two."""
SUPERUSER = "postgres"
UNPRIVILEGED = ("postgres", "nobody")
HOW = "apt-get install postgresql"

# Durability stays on: what is killed here must find all that was answered. The rest is size.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "32MB",
    "password_encryption": "scram-sha-256",
    "autovacuum": "off",
    "max_wal_size": "256MB",
    "log_min_messages": "warning",
}

# An index is made anew in a rewrite, so its function runs there once more for each row.
_ENDLESS_REWRITE = """
CREATE FUNCTION endless(id text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN IF current_query() LIKE 'VACUUM%' THEN PERFORM pg_sleep(3600); END IF; RETURN id; END $$;
CREATE INDEX endless ON objects (endless(object_id));
"""


def program(name: str) -> str:
    """Return the path of one of the server's programs; Debian keeps them out of PATH."""
    found = sorted(
        Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4])
    )
    if found and shutil.which(name) is None:
        return str(found[-1])
    return need(name, HOW)


def _account() -> pwd.struct_passwd | None:
    """Return whom the server runs as when the tests run as root, whom it refuses to serve."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(names[name] for name in UNPRIVILEGED if name in names)


def free_port() -> int:
    """Return a loopback port that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(slots=True)
class PostgresServer:
    """One server. `start` it, `close` it."""

    folder: Path
    port: int
    password: str = field(repr=False)
    process: "subprocess.Popen[bytes] | None" = None
    _served: bool = False

    @property
    def log(self) -> str:
        """What the server has said so far."""
        return (self.folder / "log").read_text(errors="replace")

    def url(self, database: str, *, password: bool = True) -> str:
        """Return the URL of a database."""
        secret = f":{self.password}" if password else ""
        return f"postgresql://{SUPERUSER}{secret}@127.0.0.1:{self.port}/{database}"

    def make(self, **settings: str) -> None:
        """Make the files of the server."""
        account = _account()
        if account is not None:
            os.chown(self.folder, account.pw_uid, account.pw_gid)
        secret = self.folder / "password"
        secret.write_text(self.password)
        secret.chmod(0o644 if account is not None else 0o600)
        command = [program("initdb"), "-D", str(self.folder / "data"), "-U", SUPERUSER]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--encoding=UTF8", "--no-sync"]
        # Sorted by a language where there is one: our columns must not depend on it.
        command += ["--locale-provider=icu", "--icu-locale=en", "--locale=C"]
        self._run(command)
        secret.unlink()
        lines = [f"{name} = '{value}'" for name, value in (SETTINGS | settings).items()]
        with (self.folder / "data" / "postgresql.conf").open("a") as file:
            file.write("\n".join([*lines, ""]))

    def _run(self, command: list[str]) -> None:
        uid, gid = self._owner()
        run = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
            user=uid,
            group=gid,
            extra_groups=None if uid is None else [],
        )
        assert run.returncode == 0, run.stderr[-2000:]

    def _owner(self) -> tuple[int | None, int | None]:
        account = _account()
        return (None, None) if account is None else (account.pw_uid, account.pw_gid)

    def start(self) -> None:
        """Start, or start again, and wait until it answers."""
        until = time.monotonic() + WITHIN_S
        self._spawn()
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=5).close()
            except psycopg.OperationalError:
                assert time.monotonic() < until, self.log[-2000:]
                time.sleep(0.02)
                if self.process is not None and self.process.poll() is not None:
                    self._start_elsewhere()
            else:
                self._served = True
                return

    def _start_elsewhere(self) -> None:
        """Try again when somebody took the port since it was found to be free."""
        assert PORT_TAKEN in self.log[-2000:], self.log[-2000:]
        if not self._served:  # later on clients know the port: it is waited for
            self.port = free_port()
        self._spawn()

    def _spawn(self) -> None:
        uid, gid = self._owner()
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [program("postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
            )

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and to every process that it made."""
        assert self.process is not None
        os.killpg(self.process.pid, number)
        for child in self._children():
            with suppress(ProcessLookupError):  # it may end at any time
                os.kill(child, number)

    def _children(self) -> list[int]:
        # Each backend leads a session of its own, so the group's signal does not reach it.
        assert self.process is not None
        listed = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in listed.read_text().split()] if listed.exists() else []

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.send_signal(signal.SIGKILL)
        self.process.wait(WITHIN_S)

    def close(self) -> None:
        """Stop it, quickly: nothing of it is needed any more."""
        if self.process is not None and self.process.poll() is None:
            self.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(WITHIN_S)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement as the superuser, outside of any transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def new_database(self, template: str = "template1") -> str:
        """Make an empty database, or a copy of another one; return its name."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def hold_rewrites(self, database: str) -> None:
        """Let no VACUUM FULL of the manifests come to its end, unless there are none."""
        self.execute(_ENDLESS_REWRITE, database)

    def rewrites(self) -> bool:
        """Tell whether a rewrite is held just now."""
        query = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        return bool(self.execute(f"{query} AND query LIKE 'VACUUM%'"))

    def drop(self, database: str) -> None:
        """Drop a database, whoever is connected."""
        self.execute(f'DROP DATABASE IF EXISTS "{database}" WITH (FORCE)')


def _has_room() -> bool:
    able = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    return able and shutil.disk_usage(MEMORY).free >= MEMORY_FREE_MIN


@contextmanager
def postgres_server(**settings: str) -> Iterator[PostgresServer]:
    """Run a server, with more settings, until the end of the block; its files vanish with it."""
    program("initdb")
    # Below a folder that the server's own user may enter; those that pytest makes are private.
    folder = Path(tempfile.mkdtemp(prefix="gateway-postgres-", dir=MEMORY if _has_room() else None))
    server = PostgresServer(folder, free_port(), secrets.token_hex(16))
    try:
        server.make(**settings)
        server.start()
        yield server
    finally:
        server.close()
        shutil.rmtree(folder)
