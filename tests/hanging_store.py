"""The program with a store that does not come to the end of a write: run it with ``python -m``.

It goes on once there is a file `GO_ON` beside the data folder.
"""

import asyncio
import sys
from pathlib import Path

from storage_gateway.__main__ import main
from storage_gateway.backends.local import LocalSegmentWriter

HANGS = "two"
"""The name of that store."""
GO_ON = "go-on"
POLL_S = 0.01

_finish = LocalSegmentWriter.finish


async def _hang(writer: LocalSegmentWriter) -> tuple[str, ...]:
    data_dir = Path(sys.argv[sys.argv.index("--data-dir") + 1])
    while writer._store == HANGS and not await asyncio.to_thread((data_dir.parent / GO_ON).exists):
        await asyncio.sleep(POLL_S)
    return await _finish(writer)


if __name__ == "__main__":
    LocalSegmentWriter.finish = _hang  # type: ignore[assignment,method-assign]
    main()
