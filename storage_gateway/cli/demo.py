"""``demo``: the main job, once, on a gateway of its own with no servers around it."""

import argparse
import asyncio
import io
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from crypto import Identity, X25519Identity, parse_identities
from storage_gateway.client import Client, ClientError, Source, Target, read_token
from storage_gateway.custody import IDENTITY_FILE, OPERATOR_TOKEN_FILE, read_secret

from .demo_proofs import (
    Digest,
    MadeInput,
    Needles,
    can_open,
    find_in_files,
    open_with_stock_tool,
)
from .offline import open_stream
from .output import EXIT_FAILED, EXIT_OK, fail, progress

PROMPT = Path(__file__).with_name("demo_prompt.txt")
SESSION = "101"
MINER = "0x00000000000000000000000000000000000000a1"
OTHER_MINER = "0x00000000000000000000000000000000000000b2"
MIB = 1 << 20
STOP_TIMEOUT_S = 60


@dataclass
class Account:
    """What happened, as printed or as JSON."""

    transfers: list[dict[str, Any]] = field(default_factory=list)
    openings: list[dict[str, Any]] = field(default_factory=list)
    search: dict[str, Any] = field(default_factory=dict)
    stock_tool: dict[str, Any] = field(default_factory=dict)
    check: str = ""
    failures: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:  # noqa: FBT001 - reads like assert
        """Note a failure unless it holds."""
        if not holds:
            self.failures.append(what)


def demo(options: argparse.Namespace) -> int:
    """Run the demo; exit 0 only if everything held."""
    if options.size_mib < 1:
        fail("demo", "--size-mib must be at least 1")
        return EXIT_FAILED
    with tempfile.TemporaryDirectory(prefix="storage-gateway-demo-") as scratch:
        work = Path(scratch)
        data_dir = options.keep or work / "data"
        if data_dir.exists() and any(data_dir.iterdir()):
            fail("demo", f"{data_dir} is not empty; name a new folder")
            return EXIT_FAILED
        story = _Story(data_dir, work, options.size_mib * MIB, quiet=options.json)
        try:
            account = story.tell()
        except (ClientError, aiohttp.ClientError, OSError, subprocess.SubprocessError) as error:
            fail("demo", error)
            return EXIT_FAILED
    if options.json:
        print(json.dumps(account.__dict__, indent=2))
    for failure in account.failures:
        fail("demo", f"did not hold: {failure}")
    if not account.failures and not options.json:
        print("\nEverything held.")
        if options.keep:
            print(f"The data folder is kept in {data_dir}.")
    return EXIT_FAILED if account.failures else EXIT_OK


@contextmanager
def _gateway(data_dir: Path, log: Path) -> Iterator[str]:
    """Run a gateway process; yields its base URL, stops it gracefully."""
    # -P: the current folder may hold modules of anybody.
    command = [sys.executable, "-P", "-m", "storage_gateway", "serve", "--data-dir", str(data_dir)]
    with log.open("wb") as log_file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log_file, text=True)  # noqa: S603 - our own program
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url:
                raise OSError(f"the gateway did not start: {log.read_text()[-2000:]}")
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(STOP_TIMEOUT_S)


class _Story:
    """The demo's steps, in order."""

    def __init__(self, data_dir: Path, work: Path, size: int, *, quiet: bool) -> None:
        self._data_dir = data_dir
        self._work = work
        self._size = size
        self._quiet = quiet
        self._account = Account()
        self._identities = {
            name: X25519Identity.generate() for name in ("user", "miner", "other miner", "outsider")
        }
        self._needles = Needles()

    def tell(self) -> Account:
        """Run all steps."""
        with _gateway(self._data_dir, self._work / "gateway.log") as url:
            self._say(f"gateway at {url}, embedded: SQLite and a local folder, no servers\n")
            asyncio.run(self._main_job(url))
        self._search_stored_bytes()
        self._check()
        return self._account

    def _say(self, text: str) -> None:
        if not self._quiet:
            print(text, flush=True)

    async def _main_job(self, url: str) -> None:
        operator = read_token(self._data_dir / OPERATOR_TOKEN_FILE)
        async with Client(url, operator) as client:
            session = await client.open_session(self._session_document())
        tokens = session["tokens"]
        self._say(f"session {session['session_id']}: user, router, two miners\n")
        async with (
            Client(url, tokens["user"]) as user,
            Client(url, tokens["miners"][MINER]) as miner,
        ):
            prompt_text = PROMPT.read_bytes()
            self._needles.add("prompt", prompt_text)
            large = MadeInput(self._size, self._needles)
            prompt = await self._put(user, "prompt", "1", "input", io.BytesIO(prompt_text))
            readings = await self._put(user, "large input", "2", "input", large)
            opened = await self._fetch_and_open(miner, "prompt", prompt["urn"], "miner")
            self._account.expect(opened == prompt_text, "the miner reads the prompt as it was")
            digest = await self._fetch_digest(miner, "large input", readings, "miner")
            self._account.expect(digest == large.digest(), "the miner reads the large input")
            result = f"Read {len(prompt_text)} bytes of prompt; input SHA-256 {digest}.\n".encode()
            self._needles.add("result", result)
            output = await self._put(miner, "result", "1", "output", io.BytesIO(result))
            answer = await self._fetch_and_open(user, "result", output["urn"], "user")
            self._account.expect(answer == result, "the user reads the result as it was")
            await self._show_who_opens(user, {"prompt": prompt, "result": output})

    def _session_document(self) -> dict[str, Any]:
        def recipient(name: str) -> str:
            return str(self._identities[name].recipient())

        return {
            "session_id": SESSION,
            "custody": "router",
            "parties": {
                "user": {"recipient": recipient("user")},
                "miners": [
                    {"id": MINER, "recipient": recipient("miner")},
                    {"id": OTHER_MINER, "recipient": recipient("other miner")},
                ],
            },
        }

    async def _put(
        self, client: Client, label: str, task: str, direction: str, source: Source
    ) -> dict[str, Any]:
        size = self._size if label == "large input" else None
        began = time.perf_counter()
        with progress(size, f"put {label}", quiet=self._quiet) as advance:
            answer = await client.upload(SESSION, task, direction, source, on_bytes=advance)
        self._note(f"put {label}", answer["size"], time.perf_counter() - began)
        self._say(f"    {answer['urn']}\n    CID {answer['cid']}")
        return answer

    async def _fetch_and_open(self, client: Client, label: str, urn: str, reader: str) -> bytes:
        target = io.BytesIO()
        await self._fetch(client, label, urn, reader, target)
        return target.getvalue()

    async def _fetch_digest(
        self, client: Client, label: str, answer: dict[str, Any], reader: str
    ) -> str:
        target = Digest()
        await self._fetch(client, label, answer["urn"], reader, target)
        return target.hexdigest()

    async def _fetch(
        self, client: Client, label: str, urn: str, reader: str, target: Target
    ) -> None:
        """Fetch the sealed file and open it with the reader's own identity, on this side."""
        began = time.perf_counter()
        with tempfile.TemporaryFile(dir=self._work) as sealed:
            with progress(None, f"get {label}", quiet=self._quiet) as advance:
                size = await client.download(urn, sealed, on_bytes=advance)
            self._note(f"get {label} ({reader}, sealed)", size, time.perf_counter() - began)
            began = time.perf_counter()
            sealed.seek(0)
            _, size = open_stream(sealed, target, [self._identities[reader]], lambda _count: None)
            self._note(f"open {label} ({reader}, offline)", size, time.perf_counter() - began)

    def _note(self, label: str, size: int, seconds: float) -> None:
        rate = size / seconds / 1e6
        self._account.transfers.append(
            {"step": label, "bytes": size, "seconds": round(seconds, 4), "mb_per_s": round(rate, 1)}
        )
        self._say(f"{label:<36} {size:>13,} bytes {seconds:8.3f} s {rate:9.1f} MB/s")

    async def _show_who_opens(self, user: Client, objects: dict[str, dict[str, Any]]) -> None:
        (router,) = parse_identities(read_secret(self._data_dir / IDENTITY_FILE))
        readers: dict[str, Identity | None] = {"router": router, **self._identities}
        self._say("\nwho can open what (tried with each identity)")
        for label, answer in objects.items():
            exported = io.BytesIO()
            await user.download(answer["urn"], exported, on_bytes=lambda _count: None)
            outcome = {
                name: can_open(exported.getvalue(), identity)
                for name, identity in readers.items()
                if identity is not None
            }
            expected = {"user": True, "router": True, "miner": True, "outsider": False}
            expected["other miner"] = label == "prompt"
            self._account.openings.append({"object": label, **outcome})
            self._account.expect(outcome == expected, f"who can open the {label}")
            shown = ", ".join(f"{name} {'yes' if ok else 'no'}" for name, ok in outcome.items())
            self._say(f"    {label:<8} {shown}")
        self._use_stock_tool(exported.getvalue())

    def _use_stock_tool(self, sealed: bytes) -> None:
        tool, opened = open_with_stock_tool(sealed, self._identities["user"], self._work)
        self._account.stock_tool = {"tool": tool, "opened": opened is not None}
        self._account.expect(
            opened is not None and self._needles.matches("result", opened),
            f"{tool} opens the exported result",
        )
        self._say(f"\nexported result, opened with {tool}: {opened is not None}")

    def _search_stored_bytes(self) -> None:
        found, searched = find_in_files(self._data_dir, self._needles)
        # The same search must find them where they are, or it would prove nothing.
        control = self._work / "control"
        control.mkdir()
        self._needles.write_control(control / "plaintext")
        seen, _ = find_in_files(control, self._needles)
        self._account.search = {
            "bytes_searched": searched,
            "needles": len(self._needles),
            "found": len(found),
            "found_in_control": len(seen),
        }
        self._account.expect(not found, f"no plaintext in the stored bytes ({found[:3]})")
        self._account.expect(len(seen) == len(self._needles), "the search finds the control")
        self._say(
            f"searched {searched / MIB:,.0f} MiB of stored bytes for {len(self._needles)} pieces of"
            f" the plaintexts: {len(found)} found (control: {len(seen)})"
        )

    def _check(self) -> None:
        command = [sys.executable, "-P", "-m", "storage_gateway", "check", "--quiet", "--data-dir"]
        done = subprocess.run(  # noqa: S603 - our own program
            [*command, str(self._data_dir)], capture_output=True, text=True, check=False
        )
        self._account.check = done.stdout.strip()
        self._account.expect(done.returncode == 0, f"check: {done.stdout}{done.stderr}")
        self._say(f"check: {self._account.check}")
