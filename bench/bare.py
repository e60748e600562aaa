"""The peer of the HTTP figures: aiohttp with nothing behind it, started as `python -m bench.bare`.

`python -m bench.bare SIZE`: `POST /` reads the body and drops it; `GET /` sends SIZE bytes from
memory, up to 1 MiB as one answer, else 1 MiB a write. All of them are there, not one piece again
and again: that would stay in the processor's cache, where no real object is. The first line on
stdout is the base URL, as with `storage-gateway serve`.
"""

import asyncio
import sys

from aiohttp import web

from .figures import MIB, made_up

BODY = web.AppKey("body", bytes)


async def drop(request: web.Request) -> web.Response:
    """Read and drop the body; answer its size."""
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    return web.json_response({"size": size})


async def send(request: web.Request) -> web.StreamResponse:
    """Send the body."""
    body = memoryview(request.app[BODY])
    if len(body) <= MIB:
        return web.Response(body=request.app[BODY])
    response = web.StreamResponse()
    response.content_length = len(body)
    await response.prepare(request)
    for start in range(0, len(body), MIB):
        await response.write(body[start : start + MIB])
    await response.write_eof()
    return response


async def serve(size: int) -> None:
    """Run until killed."""
    app = web.Application()
    app[BODY] = made_up(size)
    app.router.add_post("/", drop)
    app.router.add_get("/", send)
    # The gateway writes no access log of aiohttp's either.
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
