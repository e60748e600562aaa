"""Running ``storage-gateway`` as a person does: a process of its own, with pipes."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.databases import databases
from tests.overheard import overheard

TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended, and what it said."""

    status: int
    out: bytes
    err: str


def command(
    *arguments: str | Path,
    stdin: bytes = b"",
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Done:
    """Run a command to its end. It sees no setting of ours but those given, and the database of the
    test, if the command is about a data folder.
    """
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GATEWAY_")}
    if "--data-dir" in arguments:
        data_dir = Path(arguments[arguments.index("--data-dir") + 1])
        inherited |= databases.environment(data_dir)
    repository = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-m", "storage_gateway", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=timeout_s,
        check=False,
        cwd=cwd,
        env={**inherited, "PYTHONPATH": repository, **(environment or {})},
    )
    overheard.hear(done.stderr)
    err = done.stderr.decode()
    assert "Traceback" not in err, err
    return Done(done.returncode, done.stdout, err)


async def command_beside(
    *arguments: str | Path, **options: bytes | float | Path | Mapping[str, str]
) -> Done:
    """As `command`, while the event loop goes on."""
    return await asyncio.to_thread(command, *arguments, **options)  # type: ignore[arg-type]
