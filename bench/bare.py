"""The peer of the HTTP figures: aiohttp with nothing behind it, started as `python -m bench.bare`.

`POST /` reads the body and drops it; `GET /{size}` sends that many bytes from memory, 1 MiB a
write. The first line on stdout is the base URL, as with `storage-gateway serve`.
"""

import asyncio

from aiohttp import web

from .figures import MIB

PIECE = bytes(MIB)


async def drop(request: web.Request) -> web.Response:
    """Read and drop the body; answer its size."""
    size = 0
    async for piece in request.content.iter_any():
        size += len(piece)
    return web.json_response({"size": size})


async def send(request: web.Request) -> web.StreamResponse:
    """Send as many bytes as the path says."""
    left = int(request.match_info["size"])
    response = web.StreamResponse()
    response.content_length = left
    await response.prepare(request)
    while left > 0:
        await response.write(PIECE[:left] if left < MIB else PIECE)
        left -= MIB
    await response.write_eof()
    return response


async def serve() -> None:
    """Run until killed."""
    app = web.Application()
    app.router.add_post("/", drop)
    app.router.add_get(r"/{size:\d+}", send)
    # The gateway writes no access log of aiohttp's either.
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"http://{host}:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
