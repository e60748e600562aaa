"""The program with a store that never comes to the end of a write: run it with ``python -m``."""

import asyncio

from storage_gateway.__main__ import main
from storage_gateway.backends.local import LocalSegmentWriter

HANGS = "two"
"""The name of that store."""

_finish = LocalSegmentWriter.finish


async def _hang(writer: LocalSegmentWriter) -> tuple[str, ...]:
    if writer._store == HANGS:
        await asyncio.Event().wait()
    return await _finish(writer)


if __name__ == "__main__":
    LocalSegmentWriter.finish = _hang  # type: ignore[method-assign]
    main()
