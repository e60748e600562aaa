"""``jobs`` and the kinds of ``keys``: a job of a running gateway is begun, followed, stopped."""

import argparse
import asyncio
import json
from typing import Any

import aiohttp

from storage_gateway.client import SERVER_ERRORS, Client, ClientError
from storage_gateway.key_client import KeyClient

from .output import EXIT_FAILED, EXIT_OK, note, progress
from .transfer import talk

POLL_S = 0.25
AWAY_S = 120.0
"""For how long a gateway that does not answer is asked again: a job outlives its process."""
TOO_MANY_REQUESTS = 429
DONE = "done"
COUNTED = ("done", "changed", "failed")

Document = dict[str, Any]


def run_job(options: argparse.Namespace) -> int:
    """Begin a job and follow it to its end; exit 0 only if it did all."""
    return talk(f"keys {options.kind}", options, _run)


def list_jobs(options: argparse.Namespace) -> int:
    """Print the jobs."""
    return talk("jobs list", options, _list)


def show_job(options: argparse.Namespace) -> int:
    """Print one job, and what it could not do."""
    return talk("jobs show", options, _show)


def stop_job(options: argparse.Namespace) -> int:
    """Ask a job to stop."""
    return talk("jobs stop", options, _stop)


async def _run(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        keys = KeyClient(client)
        if options.dry_run:
            found = await keys.count_job(options.kind, options.session)
            print(json.dumps(found, indent=2) if options.json else _to_do(found))
            return EXIT_OK
        job, failures = await carried_out(keys, options.kind, options.session, options)
    if options.json:
        print(json.dumps(job | {"failures": failures}, indent=2))
    else:
        print("\n".join(report(job, failures)))
    return status_of(job)


async def carried_out(
    keys: KeyClient, kind: str, session_id: str | None, options: argparse.Namespace
) -> tuple[Document, list[Document]]:
    """Begin a job, follow it, and return it with what it could not do."""
    job = await keys.start_job(kind, session_id, options.rate)
    job = await _followed(keys, job, quiet=options.quiet)
    return job, [failure async for failure in keys.failures(job["id"])]


def status_of(job: Document) -> int:
    """Return the exit status of a job that has ended."""
    is_whole = job["state"] == DONE and not job["progress"].get("failed")
    return EXIT_OK if is_whole else EXIT_FAILED


def report(job: Document, failures: list[Document]) -> list[str]:
    """Return a job in lines for people, with what it could not do."""
    return [line_of(job), *(f"  {f['urn']}: {f['detail']} [{f['code']}]" for f in failures)]


def line_of(job: Document) -> str:
    """Return a job in one line."""
    told = job["progress"]
    counts = ", ".join(f"{told.get(what, 0):,} {what}" for what in COUNTED)
    rate = f", {told['per_s']:,.1f} a second" if told.get("per_s") else ""
    left = f", {told['eta_s']:,.0f} s left" if told.get("eta_s") and "ended" not in job else ""
    where = job["session_id"] or "all sessions"
    of = f" of {told['to_do']:,}" if "to_do" in told else ""
    return f"{job['id']} {job['kind']} ({where}): {job['state']}, {counts}{of}{rate}{left}"


def _to_do(found: Document) -> str:
    lines = [f"{found['kind']}: {found['to_do']:,} to do"]
    lines += [f"  {session}: {count:,}" for session, count in found["sessions"].items()]
    return "\n".join(lines)


async def _followed(keys: KeyClient, job: Document, *, quiet: bool) -> Document:
    """Return a job once it has ended; show how far it is meanwhile."""
    try:
        while "to_do" not in job["progress"] and "ended" not in job:
            await asyncio.sleep(POLL_S)
            job = await _asked_again(keys, job["id"])
        total = job["progress"].get("to_do")
        with progress(total, job["kind"], quiet=quiet, unit=" heads") as advance:
            shown = 0
            while True:
                now = sum(job["progress"].get(what, 0) for what in COUNTED)
                advance(max(0, now - shown))
                shown = max(shown, now)
                if "ended" in job:
                    return job
                await asyncio.sleep(POLL_S)
                job = await _asked_again(keys, job["id"])
    except (asyncio.CancelledError, aiohttp.ClientError, TimeoutError, ClientError):
        again = f"storage-gateway jobs show {job['id']} --follow"
        note(f"keys {job['kind']}", f"no longer followed; the job goes on by itself: {again}")
        raise


async def _asked_again(keys: KeyClient, job_id: str) -> Document:
    """Ask how far a job is; again while the gateway is away, as when it starts anew."""
    clock = asyncio.get_running_loop().time
    until = clock() + AWAY_S
    while True:
        try:
            return await keys.job(job_id)
        except (aiohttp.ClientError, TimeoutError):
            if clock() > until:
                raise
        except ClientError as error:
            status = int(error.problem.get("status") or 0)
            is_away = status == TOO_MANY_REQUESTS or status >= SERVER_ERRORS
            if not is_away or clock() > until:
                raise
        await asyncio.sleep(POLL_S)


async def _list(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        found = await KeyClient(client).jobs()
    if options.json:
        print(json.dumps({"jobs": found}, indent=2))
    else:
        print("\n".join(map(line_of, found)) or "no jobs")
    return EXIT_OK


async def _show(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        keys = KeyClient(client)
        job = await keys.job(options.id)
        if options.follow:
            job = await _followed(keys, job, quiet=options.quiet)
        failures = [failure async for failure in keys.failures(job["id"])]
    if options.json:
        print(json.dumps(job | {"failures": failures}, indent=2))
    else:
        print("\n".join(report(job, failures)))
    return status_of(job) if options.follow else EXIT_OK


async def _stop(options: argparse.Namespace, token: str) -> int:
    async with Client(options.url, token) as client:
        job = await KeyClient(client).stop_job(options.id)
    print(json.dumps(job, indent=2) if options.json else line_of(job))
    return EXIT_OK
