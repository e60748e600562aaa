"""Goal: connections never use up the open files that uploads, the catalog and the store need.

Method: a process of its own, since a hard limit cannot be raised again, fits a configuration into
the limit that it was given.
"""

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from pathlib import Path
from storage_gateway.cli.process import fit_descriptors
from storage_gateway.config import Config
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (min(64, hard), hard))
config = fit_descriptors(Config(data_dir=Path("data"), connections_max=100))
print(config.connections_max, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


@pytest.mark.parametrize(
    ("hard", "connections", "soft"),
    [
        (1000, 100, 100 * 3 + 256),  # each a socket and two segments, and what is there anyhow
        (100 * 3 + 256, 100, 100 * 3 + 256),
        (100 * 3 + 255, 99, 100 * 3 + 255),
        (400, 48, 400),
        (200, 1, 200),
    ],
)
def test_connections_fit_into_the_limit_on_open_files(
    hard: int, connections: int, soft: int
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(hard)], capture_output=True, text=True, check=True
    )

    assert f"{connections} {soft}" == done.stdout.strip()
