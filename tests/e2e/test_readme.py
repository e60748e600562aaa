"""Goal: the README's tour works as printed. Method: its shell blocks are run, in order, in a new
folder against a real gateway process; only the port and the program's path are replaced.
"""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.gateway import gateway_process
from tests.requirements import need

ROOT = Path(__file__).parents[2]


def _tour() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Five minutes with curl")[1].split("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert "make serve\n" == blocks[0]

    return "\n".join(blocks[1:])


async def test_the_tour_runs_as_printed(tmp_path: Path) -> None:
    need("curl", "apt-get install curl")
    program = tmp_path / ".venv" / "bin" / "storage-gateway"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m storage_gateway "$@"\n')
    program.chmod(0o755)
    async with gateway_process(tmp_path / "data") as gateway:
        script = _tour().replace("http://127.0.0.1:8420", gateway.url)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert done.returncode == 0, done.stderr
    assert "What is the tide at noon?\n" in done.stdout
    assert done.stdout.count("4.1 metres\n") == 2
    assert '"code": "erased"' in done.stdout
    assert done.stdout.endswith("all is well\n")
