"""Three local stores behind `Replicas`, which fail, hang and lie when they are told to."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from storage_gateway.backends import Check, KeyedStore, Member, Range, Replicas
from storage_gateway.backends.faulty import FaultyStore, StoreFaults
from storage_gateway.errors import BlobCorrupt

KEY = "deployment/main/payloads/payload/0"
CONTENT = b"content of a blob"
WRITES_FAIL = StoreFaults(refused={"write": 1.0, "put": 1.0})
FINISHES_FAIL = StoreFaults(refused={"finish": 1.0})
READS_FAIL = StoreFaults(refused={"read": 1.0, "stat": 1.0})
DELETES_FAIL = StoreFaults(refused={"delete": 1.0})
LISTS_FAIL = StoreFaults(refused={"list": 1.0})


class HungStore(FaultyStore):
    """A store of which some operations wait until it is told to go on."""

    def __init__(self, inner: KeyedStore) -> None:
        super().__init__(inner, seed=1)
        self.go_on = asyncio.Event()
        self.go_on.set()
        self.hung: tuple[str, ...] = ("finish",)

    async def before(self, operation: str, key: str = "") -> None:
        await super().before(operation, key)
        if operation in self.hung:
            await self.go_on.wait()

    def hang(self, *operations: str) -> None:
        """Let these wait from now on."""
        self.hung = operations
        self.go_on.clear()


@dataclass
class Stores:
    """Three stores in three failure domains, and what was told of bad replicas."""

    folder: Path
    one: HungStore
    two: HungStore
    three: HungStore
    bad: list[tuple[str, str, str]] = field(default_factory=list)

    def together(self, *, write_quorum: int, domains: str = "abc") -> Replicas:
        members = [
            Member(store, domain=domain)
            for store, domain in zip((self.one, self.two, self.three), domains, strict=True)
        ]
        return Replicas(members, write_quorum=write_quorum, on_bad=self._note)

    def _note(self, key: str, name: str, kind: type[Exception]) -> None:
        self.bad.append((key, name, kind.__name__))

    def file(self, name: str) -> Path:
        return self.folder / name / KEY


async def written(store: KeyedStore, key: str = KEY) -> tuple[str, ...]:
    """Write a blob; return who has it."""
    writer = store.create(key)
    try:
        await asyncio.to_thread(writer.write, 0, memoryview(CONTENT))
        return await writer.finish()
    finally:
        await writer.abort()


async def fetched(store: KeyedStore, check: Check[bytes] = lambda _, data: data) -> bytes:
    with ThreadPoolExecutor(1) as threads:
        (found,) = await store.fetch([Range(KEY, 0, len(CONTENT))], check, threads)
    return found


def is_content(_: int, data: bytes) -> bytes:
    if data != CONTENT:
        raise BlobCorrupt("not the content")
    return data


def spoil(file: Path) -> None:
    """Let the blob be as long as it was, and another one."""
    file.write_bytes(bytes(len(CONTENT)))
