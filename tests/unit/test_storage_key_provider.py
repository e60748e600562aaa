"""Goal: a file of identities is changed whole or not at all, by many processes at once, and no
identity that was told of is ever lost.

Method: a process that dies at each of its system calls on the folder, in turn; processes that
change one file at once; files that are not as they should be.
"""

import asyncio
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from crypto import CLASSIC, HYBRID, Identity, X25519Identity, parse_identities
from storage_gateway import key_provider
from storage_gateway.config import ConfigError
from storage_gateway.errors import KeyProviderUnavailable
from storage_gateway.key_provider import IdentityFile, SecretFile, identity_file
from tests.gateway import REPOSITORY

PROCESSES, EACH = 3, 4


def text(identity: Identity) -> str:
    return str(identity.recipient())


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[IdentityFile]:
    tmp_path.chmod(0o700)
    made = identity_file(tmp_path)
    yield made
    await made.close()


def kept(folder: Path) -> list[str]:
    path = folder / "router-identity.txt"
    return [text(one) for one in parse_identities(path.read_text())] if path.exists() else []


async def test_versions_are_held_in_the_order_they_were_made(
    file: IdentityFile, tmp_path: Path
) -> None:
    assert () == await file.load()
    made = [await file.make(CLASSIC), await file.make(HYBRID), await file.make(CLASSIC)]

    assert made == list(await file.load())
    assert made[0] == await file.make(CLASSIC, first=True)
    assert made[1] == await file.make(HYBRID, first=True)
    assert [text(one) for one in made] == kept(tmp_path)
    path = tmp_path / "router-identity.txt"
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert await file.has_copies_note()


async def test_what_is_dropped_leaves_nothing_of_itself(file: IdentityFile, tmp_path: Path) -> None:
    made = [await file.make(CLASSIC) for _ in range(3)]
    await file.drop(text(made[1]))
    await file.drop(text(made[1]))
    content = (tmp_path / "router-identity.txt").read_text()

    assert [made[0], made[2]] == list(await file.load())
    assert made[1].to_text() not in content
    assert text(made[1]) not in content
    assert 2 == content.count("# created: ")
    await file.drop(text(made[0]))
    with pytest.raises(ConfigError, match="the only identity is not erased"):
        await file.drop(text(made[2]))
    assert [made[2]] == list(await file.load())
    assert await file.has_copies_note()


async def test_what_people_wrote_into_it_stays(file: IdentityFile, tmp_path: Path) -> None:
    path = tmp_path / "router-identity.txt"
    first = X25519Identity.generate()
    path.write_text(f"# ours, of 2025\n\n# kept since\n{first.to_text()}\n\n# the end")
    path.chmod(0o600)
    assert not await file.has_copies_note()
    made = await file.make(CLASSIC)
    content = path.read_text()

    assert [first, made] == list(await file.load())
    for line in ("# ours, of 2025", "# kept since", "# the end"):
        assert line in content
    await file.drop(text(first))
    assert [made] == list(await file.load())
    assert "# ours, of 2025" in path.read_text()


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir(0o700)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "not text": (lambda p: p.write_bytes(b"\xff\xfe"), "not text"),
    "no identity": (lambda p: p.write_text("# nothing\n"), "no identity"),
    "half an identity": (lambda p: p.write_text("AGE-SECRET-KEY-1ABC\n"), "line 1"),
    "open to others": (lambda p: p.chmod(0o644), "chmod 600"),
    "a link": (_link, "cannot be read"),
    "a folder": (_folder, "cannot be read"),
}


@pytest.mark.parametrize("name", SPOILED)
async def test_a_file_that_is_not_as_it_should_be_is_refused_and_left(
    file: IdentityFile, tmp_path: Path, name: str
) -> None:
    spoil, said = SPOILED[name]
    secret = (await file.make(CLASSIC)).to_text()
    path = tmp_path / "router-identity.txt"
    spoil(path)
    before = path.read_bytes() if path.is_file() else None

    for asked in (file.load(), file.make(CLASSIC), file.make(CLASSIC, first=True)):
        with pytest.raises(ConfigError, match=said) as refused:
            await asked
        assert secret not in str(refused.value)
    assert before == (path.read_bytes() if path.is_file() else None)


async def test_a_change_that_another_process_overtook_is_made_anew(
    file: IdentityFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, other = await file.make(CLASSIC), identity_file(tmp_path)
    exchange, made = SecretFile.exchange, []

    async def overtaken(self: SecretFile, before: bytes | None, after: bytes) -> bool:
        monkeypatch.undo()
        made.append(await other.make(CLASSIC))
        return await exchange(self, before, after)

    monkeypatch.setattr(SecretFile, "exchange", overtaken)
    mine = await file.make(CLASSIC)
    await other.close()

    assert [first, *made, mine] == list(await file.load())


async def test_a_lock_that_nobody_lets_go_of_is_told(
    file: IdentityFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await file.make(CLASSIC)
    monkeypatch.setattr(key_provider, "LOCK_S_MAX", 0.05)
    lock = key_provider._locked(tmp_path / "router-identity.txt.lock")
    await asyncio.to_thread(lock.__enter__)
    try:
        with pytest.raises(KeyProviderUnavailable, match="another process"):
            await file.make(CLASSIC)
        assert [made] == list(await file.load())  # reads need no lock
    finally:
        lock.__exit__()

    assert made != await file.make(CLASSIC)


CHANGES = """
import asyncio, os, sys
from pathlib import Path
from storage_gateway import key_provider

class Wrapped(key_provider._Plain):
    pass

dies_at, steps = int(sys.argv[2]), 0

def step(event, args):
    global steps
    named = [a for a in args if isinstance(a, (str, bytes, os.PathLike))]
    if event in {"open", "os.rename", "os.remove", "os.link"} and any(
        "router-identity" in os.fsdecode(a) for a in named
    ):
        steps += 1
        if steps == dies_at:
            os.kill(os.getpid(), 9)

async def main():
    file = key_provider.identity_file(Path(sys.argv[1]))
    for change in sys.argv[3:]:
        kind, _, what = change.partition(":")
        if kind == "make":
            made = await file.make("classic")
            print("made", made.recipient(), flush=True)
        else:
            await file.drop(what)
            print("dropped", what, flush=True)
    await file.close()

sys.addaudithook(step)
asyncio.run(main())
"""


def changing(folder: Path, *changes: str, dies_at: int = 0) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", CHANGES, str(folder), str(dies_at), *changes],
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
    )


def told(process: "subprocess.Popen[str]", kind: str) -> list[str]:
    out = process.communicate(timeout=60)[0]
    return [line.split()[1] for line in out.splitlines() if line.startswith(kind)]


async def test_processes_that_make_some_at_once_lose_none(
    file: IdentityFile, tmp_path: Path
) -> None:
    first = await file.make(CLASSIC)
    running = [changing(tmp_path, *["make"] * EACH) for _ in range(PROCESSES)]
    made = [one for process in running for one in await asyncio.to_thread(told, process, "made")]

    assert PROCESSES * EACH == len(set(made))
    assert {text(first), *made} == set(kept(tmp_path))
    assert [] == list(tmp_path.glob("*.tmp"))


async def test_a_process_that_dies_at_any_step_loses_none(tmp_path: Path) -> None:
    """And what it leaves behind does not keep a secret that is dropped later."""
    deaths = 0
    for step in range(1, 60):
        folder = tmp_path / str(step)
        folder.mkdir(mode=0o700)
        file = identity_file(folder)
        old, gone = await file.make(CLASSIC), await file.make(CLASSIC)
        dying = changing(folder, "make", f"drop:{text(gone)}", dies_at=step)
        out = (await asyncio.to_thread(dying.communicate))[0]
        made = [line.split()[1] for line in out.splitlines() if line.startswith("made")]
        dropped = "dropped" in out

        assert {text(old), *made} <= set(kept(folder)), step
        assert not (dropped and text(gone) in kept(folder)), step
        await file.drop(text(gone))
        last = await file.make(CLASSIC)
        assert last in await file.load()
        for path in folder.iterdir():
            assert gone.to_text() not in path.read_text(), (step, path.name)
        await file.close()
        if dying.returncode == 0:
            break
        deaths += 1
    else:
        pytest.fail("it never came to its end")

    assert deaths >= 8, deaths


async def test_a_disk_that_hangs_takes_no_thread_of_others(
    file: IdentityFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = os.pipe()
    monkeypatch.setattr(key_provider, "read_secret_bytes", lambda _path: os.read(release[0], 1))
    (tmp_path / "router-identity.txt").touch()
    loads = [asyncio.create_task(file.load()) for _ in range(50)]
    await asyncio.sleep(0)
    for load in loads:
        load.cancel()
    await asyncio.gather(*loads, return_exceptions=True)

    assert b"x" == await asyncio.wait_for(asyncio.to_thread(lambda: b"x"), 20)
    os.write(release[1], b"xx")
    for end in release:
        os.close(end)
