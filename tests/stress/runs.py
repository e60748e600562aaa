"""Starting stress runs over HTTP and waiting for their ends; nothing is judged here."""

import asyncio
import json
from typing import Any

from tests.gateway import POLL_S, GatewayProcess, RunningGateway
from tests.http.raw import Answer, exchange, request

RUN_S_MAX = 600.0
"""A run by night has its full size; by day the timeout of the test comes first."""

Serving = RunningGateway | GatewayProcess


async def ask(
    gateway: Serving, method: str, path: str, document: object = None, token: str | None = None
) -> Answer:
    """Make one request as the operator."""
    body = None if document is None else json.dumps(document).encode()
    headers = [("Content-Type", "application/json")] if body else []
    data = request(method, path, token or gateway.operator_token, headers=headers, body=body)
    return await exchange(gateway.address, data)


async def start(gateway: Serving, case: str, **parameters: object) -> dict[str, Any]:
    """Start a run; return what was answered."""
    answer = await ask(gateway, "POST", f"/v1/stress/{case}", parameters)
    assert answer.status == 202, answer.body
    document: dict[str, Any] = answer.json()
    return document


async def show(gateway: Serving, run_id: str) -> dict[str, Any]:
    """Return a run as it is now."""
    answer = await ask(gateway, "GET", f"/v1/stress/runs/{run_id}")
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json()
    return document


async def ended(gateway: Serving, run_id: str) -> dict[str, Any]:
    """Return a run once it has ended."""
    async with asyncio.timeout(RUN_S_MAX):
        while (run := await show(gateway, run_id))["state"] == "running":
            await asyncio.sleep(POLL_S * 5)
    return run


async def carried_out(gateway: Serving, case: str, **parameters: object) -> dict[str, Any]:
    """Start a run and return it once it has ended."""
    return await ended(gateway, (await start(gateway, case, **parameters))["id"])


def failed(run: dict[str, Any]) -> dict[str, list[str]]:
    """Return what failed in a run's report, with the evidence."""
    return {
        str(entry.get("number", entry.get("criterion"))): entry["evidence"]
        for entry in [*run.get("invariants", []), *run.get("criteria", [])]
        if entry["verdict"] != "pass"
    }
