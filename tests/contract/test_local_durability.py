"""Goal: what the local store called durable survives a power cut at any later moment.

Method: the store on a file system that forgets all that was not synced. Before every single file
operation of a scenario the power is cut in a copy, and every blob that was finished by then must
read back. The same checker must catch stores that sync too little, or it would prove nothing.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from storage_gateway.backends.disk import Disk, OpenBlob
from storage_gateway.backends.local import LocalStore
from storage_gateway.errors import GatewayError
from tests.forgetful import BASE, ForgetfulFs

ROOT = BASE / "store"
CRASHES_BY_CHANCE = 3


class Bench:
    """A store on a forgetful disk, and a record of what it promised."""

    def __init__(self, fs: ForgetfulFs, kind: type[Disk], seed: int) -> None:
        self.fs = fs
        self.disk = Disk("local", ROOT, fs)
        self.disk.__class__ = kind
        self.promised: dict[str, bytes] = {}
        self.lost: list[str] = []
        self.crashes = 0
        self._random = Random(seed)
        fs.on_operation = self.cut_power

    def begin(self, key: str, data: bytes) -> OpenBlob:
        blob = OpenBlob(self.disk, key)
        blob.write(0, memoryview(data))
        return blob

    def finish(self, blob: OpenBlob, key: str, data: bytes) -> None:
        blob.finish()
        self.promised[key] = data
        self.cut_power()

    def put(self, key: str, data: bytes) -> None:
        self.finish(self.begin(key, data), key, data)

    def delete(self, key: str) -> None:
        self.promised.pop(key, None)
        self.disk.delete(key)
        for found in Disk("local", ROOT, self.fs.crash()).list(f"{key.rpartition('/')[0]}/"):
            if found.key == key:
                self.lost.append(f"{key} is back")

    def cut_power(self) -> None:
        after = [self.fs.crash()]
        after += [self.fs.crash(self._random) for _ in range(CRASHES_BY_CHANCE)]
        self.crashes += len(after)
        for fs in after:
            found = Disk("local", ROOT, fs)
            self.lost += [k for k, v in self.promised.items() if not _has(found, k, v)]


def _has(disk: Disk, key: str, data: bytes) -> bool:
    try:
        return disk.stat(key).size == len(data) and disk.read(key, 0, len(data)) == data
    except GatewayError:
        return False


# Scenarios.


def first_upload(bench: Bench) -> None:
    bench.put("d/marker", b"marker")
    bench.put("d/main/payloads/p/0", b"first")


def second_upload(bench: Bench) -> None:
    first_upload(bench)
    bench.put("d/main/payloads/q/0", b"second")


def several_segments(bench: Bench) -> None:
    bench.put("d/marker", b"")
    for index in range(3):
        bench.put(f"d/main/payloads/p/{index}", b"segment %d" % index)


def other_folders(bench: Bench) -> None:
    second_upload(bench)
    bench.put("d/main/manifests/o/1", b"beside the payloads")
    bench.put("d/stage/payloads/p/0", b"another namespace")
    bench.put("e/main/payloads/p/0", b"another deployment")


def two_on_the_way(bench: Bench) -> None:
    """One made the shared folders and has not synced them when the other is finished."""
    slow = bench.begin("d/main/payloads/p/0", b"slow")
    bench.put("d/main/payloads/q/0", b"quick")
    bench.finish(slow, "d/main/payloads/p/0", b"slow")


def after_a_deletion(bench: Bench) -> None:
    second_upload(bench)
    bench.delete("d/main/payloads/p/0")
    bench.put("d/main/payloads/r/0", b"third")
    bench.delete("d/main/payloads/q/0")
    bench.put("d/main/payloads/q/0/deep", b"where a blob was")
    bench.delete("d/main/payloads/q/0/deep")
    bench.put("d/main/payloads/q/1", b"where a folder was emptied")
    bench.delete("d/main/payloads/q/1")
    bench.put("d/main/payloads/q/0/deep", b"again")


def after_a_restart(bench: Bench) -> None:
    """Another process: what the first one made is there, and perhaps not yet durable."""
    slow = bench.begin("d/main/payloads/p/0", b"slow")
    bench.disk = Disk("local", ROOT, bench.fs)
    bench.put("d/main/payloads/q/0", b"quick")
    bench.finish(slow, "d/main/payloads/p/0", b"slow")


SCENARIOS = [
    first_upload,
    second_upload,
    several_segments,
    other_folders,
    two_on_the_way,
    after_a_deletion,
    after_a_restart,
]


def lost(
    scenario: Callable[[Bench], None],
    seed: int,
    fs: type[ForgetfulFs] = ForgetfulFs,
    kind: type[Disk] = Disk,
) -> list[str]:
    """Return the blobs that a power cut took although they had been called durable."""
    bench = Bench(fs(), kind, seed)
    scenario(bench)
    assert bench.crashes > 10 * len(bench.promised)
    return bench.lost


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_power_cut_at_any_moment_takes_nothing_finished(
    scenario: Callable[[Bench], None], seed: int
) -> None:
    assert [] == lost(scenario, seed)


@pytest.mark.parametrize("at", range(15))
def test_an_upload_between_any_two_steps_of_another(at: int, seed: int) -> None:
    """A whole second upload runs at the first one's ``at``-th file operation."""

    def interleaved(bench: Bench) -> None:
        bench.put("d/marker", b"")
        first, cut = bench.fs.operations, bench.cut_power

        def also() -> None:
            if bench.fs.operations - first == at + 1:
                bench.fs.on_operation = cut
                bench.put("d/main/payloads/q/0", b"whole")
            cut()

        bench.fs.on_operation = also
        bench.put("d/main/payloads/p/0", b"first")
        assert "d/main/payloads/q/0" in bench.promised

    assert [] == lost(interleaved, seed)


async def test_threads_that_race_for_shared_folders(seed: int) -> None:
    fs = ForgetfulFs()
    store = LocalStore(ROOT, fs)
    keys = [f"d/{n}/payloads/{p}/{s}" for n in range(2) for p in range(4) for s in range(2)]
    Random(seed).shuffle(keys)
    lost_keys: list[str] = []

    async def put(key: str) -> None:
        await store.put(key, key.encode())
        if not _has(Disk("local", ROOT, fs.crash()), key, key.encode()):
            lost_keys.append(key)

    await asyncio.gather(*(put(key) for key in keys))
    await asyncio.to_thread(store.close)

    assert [] == lost_keys


# The planted bugs.


class SyncsNoFile(ForgetfulFs):
    def sync(self, descriptor: int) -> None:
        pass


class SyncsNoFolder(ForgetfulFs):
    def sync_folder(self, path: Path) -> None:
        pass


class SyncsNoFolderAbove(ForgetfulFs):
    """Syncs the folder that a blob is in, and none of those that were made for it."""

    def sync_folder(self, path: Path) -> None:
        if path.name in ("p", "q", "r"):
            super().sync_folder(path)


class SyncsTheFolderOfTheFirstBlobOnly(ForgetfulFs):
    def __init__(self) -> None:
        super().__init__()
        self._synced: set[Path] = set()

    def sync_folder(self, path: Path) -> None:
        if path not in self._synced:
            self._synced.add(path)
            super().sync_folder(path)


class HastyDisk(Disk):
    """Believes a folder durable once it is made, not once it is synced."""

    def create(self, key: str) -> int:
        descriptor = super().create(key)
        self._durable.update(self._shared_above(self._path(key).parent))
        return descriptor


class ForgetsWhatItRemovedDisk(Disk):
    """Goes on believing a folder durable after it was removed and made again."""

    def delete(self, key: str) -> None:
        durable = set(self._durable)
        super().delete(key)
        self._durable |= durable


@pytest.mark.parametrize(
    ("fs", "kind", "scenario"),
    [
        (SyncsNoFile, Disk, first_upload),
        (SyncsNoFolder, Disk, first_upload),
        (SyncsNoFolderAbove, Disk, first_upload),
        (SyncsTheFolderOfTheFirstBlobOnly, Disk, second_upload),
        (SyncsTheFolderOfTheFirstBlobOnly, Disk, several_segments),
        (ForgetfulFs, HastyDisk, two_on_the_way),
        (ForgetfulFs, ForgetsWhatItRemovedDisk, after_a_deletion),
    ],
)
def test_the_checker_catches_a_store_that_syncs_too_little(
    fs: type[ForgetfulFs], kind: type[Disk], scenario: Callable[[Bench], None], seed: int
) -> None:
    assert lost(scenario, seed, fs, kind)
