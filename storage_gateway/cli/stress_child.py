"""The process that a stress run starts for itself; no command of the program.

It is told everything through its pipes: nothing of it is in the list of processes.
"""

import asyncio
import os
import sys

from storage_gateway.app import Gateway
from storage_gateway.stress.child import serve_run

from .process import prepare_process

LOG_LEVEL = "info"


def main() -> None:
    """Serve until the pipe of orders ends."""
    prepare_process(LOG_LEVEL)
    # What anything prints by accident must not get between the lines of the pipe.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    asyncio.run(serve_run(Gateway, sys.stdin.buffer, out))


if __name__ == "__main__":
    main()
