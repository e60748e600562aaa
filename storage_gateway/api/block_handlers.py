"""Handlers: blocks of payloads by their CID, for anybody, where ``serve_ipfs`` is set.

The trustless subset of an IPFS gateway: what is sent can be verified by its CID, and is ciphertext.
"""

from collections.abc import AsyncGenerator

from aiohttp import hdrs, web

from storage_gateway.block_errors import InvalidCID, NotCached, UnknownBlock
from storage_gateway.blocks import Blocks, Span, content_size_of, size_of
from storage_gateway.catalog.blocks import Block
from storage_gateway.errors import InvalidRequest
from urn import CID, CIDError, car_size

from .block_requests import Asked, Format, asked_of, range_of
from .sending import matches, send_pieces
from .services import SERVICES

PROBE = "bafkqaaa"
"""The identity CID of nothing: whoever looks for a gateway of this kind asks for it."""
_PROBE_ARCHIVE = bytes.fromhex("19a265726f6f747381d82a4500015500006776657273696f6e01")
"""A header with that root, and no block: what an identity CID names is in it."""


async def get_block(request: web.Request) -> web.StreamResponse:
    """``GET``/``HEAD /ipfs/{cid}``: a block, or an archive of what is below it."""
    if request.headers.get("Service-Worker", "").lower() == "script":
        raise InvalidRequest("no script is served here")
    asked = asked_of(request)
    text, path = request.match_info["cid"], request.match_info.get("path", "")
    if path and asked.format is Format.RAW:
        raise InvalidRequest("a block has no path: ask for /ipfs/{cid}, or for an archive")
    blocks = request.app[SERVICES].blocks
    if blocks is None:
        raise UnknownBlock("blocks are not served here")
    if text == PROBE:
        return await _answer_probe(request, asked)
    block = await _find(request, blocks, text)
    if path:
        raise UnknownBlock(f"{text} is of a file: nothing is at '{path[:100]}' below it")
    if asked.format is Format.RAW:
        return await _answer_raw(request, asked, blocks, block)
    return await _answer_archive(request, asked, blocks, block)


async def _find(request: web.Request, blocks: Blocks, text: str) -> Block:
    try:
        cid = CID.parse(text)
    except CIDError as error:
        raise InvalidCID(str(error), position=error.position) from None
    try:
        return await blocks.find(cid)
    except UnknownBlock as error:
        directives = request.headers.get(hdrs.CACHE_CONTROL, "").lower().split(",")
        if "only-if-cached" in (directive.strip() for directive in directives):
            raise NotCached(error.detail) from None
        raise


def _headers(request: web.Request, asked: Asked, etag: str) -> dict[str, str]:
    text = request.match_info["cid"]
    headers = {
        "ETag": etag,
        "Cache-Control": "public, max-age=29030400, immutable",
        "Content-Type": asked.content_type,
        "Content-Disposition": asked.disposition(text),
        "Accept-Ranges": "bytes" if asked.format is Format.RAW else "none",
        "Vary": "Accept",
        "X-Ipfs-Path": f"/ipfs/{text}",
        "X-Ipfs-Roots": text,
    }
    if asked.query is not None:
        headers["Content-Location"] = f"/ipfs/{text}?{asked.query}"
    return headers


async def _answer_probe(request: web.Request, asked: Asked) -> web.StreamResponse:
    etag = asked.etag(PROBE)
    headers = _headers(request, asked, etag)
    if matches(request, etag):
        return web.Response(status=304, headers=headers)
    body = b"" if asked.format is Format.RAW else _PROBE_ARCHIVE
    return web.Response(body=body, headers=headers)


async def _answer_raw(
    request: web.Request, asked: Asked, blocks: Blocks, block: Block
) -> web.StreamResponse:
    size = size_of(block)
    whole = asked.etag(str(block.cid))
    span = _range_of(request, whole, size)
    etag = whole if span is None else f'{whole[:-1]}.{span.first}-{span.last}"'
    headers = _headers(request, asked, etag)
    if matches(request, etag, whole):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    response.content_length = size
    if span is not None:
        response.set_status(206)
        response.content_length = span.last - span.first + 1
        response.headers["Content-Range"] = f"bytes {span.first}-{span.last}/{size}"
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    await send_pieces(request, response, _cut(blocks.read(block), span))
    return response


def _range_of(request: web.Request, whole: str, size: int) -> Span | None:
    """Return the part of a block that is asked for; a HEAD asks for none (RFC 9110, 14.2)."""
    if request.method == hdrs.METH_HEAD:
        return None
    known = request.headers.get(hdrs.IF_RANGE, whole).strip()
    # Each of our tags of a block names the same bytes, also one that came with a part of them.
    if known != whole and not known.startswith(f"{whole[:-1]}."):
        return None
    return range_of(request.headers.get(hdrs.RANGE), size)


async def _cut(pieces: AsyncGenerator[bytes], span: Span | None) -> AsyncGenerator[bytes]:
    """Yield the span of the one piece; all of it was verified."""
    async for piece in pieces:
        yield piece if span is None else piece[span.first : span.last + 1]
        del piece


async def _answer_archive(
    request: web.Request, asked: Asked, blocks: Blocks, block: Block
) -> web.StreamResponse:
    alone, span = asked.scope == "block", None
    if asked.entity_bytes is not None:
        span = asked.entity_bytes.of(content_size_of(block))
        alone = span is None
    etag = asked.etag(str(block.cid))
    headers = _headers(request, asked, etag)
    if matches(request, etag):
        return web.Response(status=304, headers=headers)
    response = web.StreamResponse(headers=headers)
    if alone or block.node is None:
        response.content_length = car_size([size_of(block)])
    if request.method == hdrs.METH_HEAD:
        await response.prepare(request)
        return response
    pieces = blocks.archive(block, span=span, alone=alone, again=asked.again)
    await send_pieces(request, response, pieces)
    return response
