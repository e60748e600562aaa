"""What many of these tests do: upload, fetch, seal as a stock tool would, look for leftovers."""

import logging
import random
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyrage  # type: ignore[import-untyped]

from tests.gateway import (
    GatewayProcess,
    OpenSession,
    RunningGateway,
    leftovers,
    open_session,
    running_gateway,
)
from tests.http.raw import SEALED, Answer, Headers, exchange, request
from tests.overheard import overheard

PLAINTEXT_TYPE = "application/octet-stream"
PLAINTEXT = ("Accept", PLAINTEXT_TYPE)

LEAF = 983_040
"""Plaintext bytes of one leaf: 15 chunks of 64 KiB."""
SEGMENT = 8 * LEAF


def made_bytes(size: int, seed: int = 1) -> bytes:
    """Return bytes that do not repeat and are the same in every run."""
    return random.Random(seed).randbytes(size)


def sealed_by_stock_tool(plaintext: bytes, *recipients: str) -> bytes:
    """Return an age file as another implementation makes it."""
    parsed = [pyrage.x25519.Recipient.from_str(text) for text in recipients]
    return bytes(pyrage.encrypt(plaintext, parsed))


async def upload(
    gateway: RunningGateway | GatewayProcess,
    path: str,
    token: str,
    body: bytes,
    *,
    headers: Headers = (),
) -> Answer:
    """Upload a body in one piece."""
    overheard.text("a body", body)
    return await exchange(gateway.address, request("POST", path, token, headers=headers, body=body))


async def uploaded(
    gateway: RunningGateway | GatewayProcess,
    path: str,
    token: str,
    body: bytes,
    *,
    headers: Headers = (),
) -> dict[str, Any]:
    """Upload a body that must be taken; return the answer's document."""
    answer = await upload(gateway, path, token, body, headers=headers)
    assert 201 == answer.status, answer
    return answer.json()


@asynccontextmanager
async def holding(
    tmp_path: Path, *bodies: bytes, **limits: object
) -> AsyncIterator[tuple[RunningGateway, OpenSession, list[str]]]:
    """Run a gateway with ``limits`` over objects of session 101 that it has; their URNs come too.

    One with ordinary limits took them in: what bounds readers bounds senders as well, and a busy
    machine may send more slowly than it reads.
    """
    async with running_gateway(tmp_path) as patient:
        session = await open_session(patient, "101")
        urns = []
        for number, body in enumerate(bodies):
            path = session.path(f"held{number}")
            urns.append((await uploaded(patient, path, session.user_token, body))["urn"])
    async with running_gateway(tmp_path, **limits) as gateway:
        yield gateway, session, urns


async def fetch(
    gateway: RunningGateway | GatewayProcess,
    urn: str,
    token: str,
    *,
    method: str = "GET",
    part: str = "",
    headers: Headers = (),
) -> Answer:
    """Ask for an object, or ``part`` of what is known of it (``/manifest``)."""
    path = f"/v1/objects/{urn}{part}"
    return await exchange(gateway.address, request(method, path, token, headers=headers))


async def assert_nothing_left(gateway: RunningGateway, session: OpenSession, task_id: str) -> None:
    """Nothing is there that no object accounts for, and the slot takes an upload right after."""
    assert [] == await leftovers(gateway.catalog, gateway.store)
    document = await uploaded(gateway, session.path(task_id), session.user_token, b"after all")
    answer = await fetch(gateway, document["urn"], session.user_token, headers=[PLAINTEXT])
    assert b"after all" == answer.body
    assert [] == await leftovers(gateway.catalog, gateway.store)


async def upload_sealed(
    gateway: RunningGateway, session: OpenSession, task_id: str, age_file: bytes
) -> Answer:
    """Upload a sealed file as the session's user."""
    path = session.path(task_id)
    return await upload(gateway, path, session.user_token, age_file, headers=[SEALED])


def logged_codes(records: Iterable[logging.LogRecord]) -> list[str]:
    """Return the problem codes of the requests that were logged."""
    return [
        record.__dict__["code"]
        for record in records
        if record.getMessage() == "request" and record.__dict__.get("code")
    ]
