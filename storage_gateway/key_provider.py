"""Where the router's identities are kept: what every such place promises, and one that is a file.

A provider holds several versions at a time. It makes one and tells it only once it is durable, and
never loses those that it held before: not by a crash between two writes, not to another process
that makes one at the same time. `keyring` alone asks it, and knows how long to wait for it.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar

from crypto import (
    CLASSIC,
    CryptoError,
    HybridIdentity,
    Identity,
    X25519Identity,
    format_identity_file,
    parse_identities,
)

from .config import ConfigError
from .custody import (
    IDENTITY_FILE,
    read_secret_bytes,
    remove_leftovers,
    remove_second_names,
    replace_secret,
    sync_folder,
)
from .errors import KeyProviderUnavailable

T = TypeVar("T")

LOCK_S_MAX = 2.0
"""How long the lock of a file is waited for: who has it does nothing but write that file."""
LOCK_POLL_S = 0.01
CHANGES_MAX = 16
"""How often a change is tried anew because another process changed the same file meanwhile."""


class KeyProvider(Protocol):
    """Holds the router's identities. Each call may hang: who calls says how long is waited."""

    name: str
    """Its kind."""
    place: str
    """The file in the data folder that it lives by; for people."""

    async def load(self) -> tuple[Identity, ...]:
        """Return all versions that it holds, oldest first; none before the first was made.

        Raises:
            ConfigError: what is there is not usable.
            KeyProviderUnavailable: it does not answer, or refuses.

        """
        ...

    async def make(self, key_class: str, *, first: bool = False) -> Identity:
        """Make a version of a class; it is durable when it is returned.

        ``first``: if one of that class is held already, return that instead.

        Raises:
            ConfigError, KeyProviderUnavailable: as `load`; it may have been made all the same.

        """
        ...

    async def drop(self, recipient: str) -> None:
        """Erase the version with that recipient for good; what is not held is erased already.

        Raises:
            ConfigError, KeyProviderUnavailable: as `load`; or it is the only one.

        """
        ...

    async def close(self) -> None:
        """Give up what is open; what is under way is not waited for."""
        ...


class Wrapping(Protocol):
    """What an identity file is sealed with where it lies."""

    name: str

    async def wrap(self, text: bytes) -> bytes:
        """Return what is written. Raises KeyProviderUnavailable."""
        ...

    async def unwrap(self, data: bytes) -> bytes:
        """Return the text of an identity file. Raises ConfigError, KeyProviderUnavailable."""
        ...

    async def close(self) -> None:
        """Give up what is open."""
        ...


class SecretFile:
    """A file that several processes change: whole or not at all, and none undoes another's change.

    All of it happens in one thread of its own, so that a disk that hangs takes no other thread.
    """

    def __init__(self, path: Path) -> None:
        """Nothing is touched yet."""
        self.path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="keys")

    def close(self) -> None:
        """Take no more work, and wait for none."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def read(self) -> bytes | None:
        """Return its bytes, durable by then; None: there is no such file. Raises ConfigError."""
        return await self._run(self._read)

    async def exchange(self, before: bytes | None, after: bytes) -> bool:
        """Have it hold ``after``, durably, if it still holds ``before``; tell whether it did.

        Raises:
            ConfigError: it cannot be written.
            KeyProviderUnavailable: another process does not let go of it.

        """
        return await self._run(lambda: self._exchange(before, after))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _read(self) -> bytes | None:
        if not self.path.exists():
            return None
        remove_second_names(self.path)
        data = read_secret_bytes(self.path)
        # What is registered in the catalog next is registered for good: so must the file be there.
        sync_folder(self.path.parent)
        return data

    def _exchange(self, before: bytes | None, after: bytes) -> bool:
        try:
            with _locked(self.path.with_name(f"{self.path.name}.lock")):
                remove_leftovers(self.path)
                if self._read() != before:
                    return False
                replace_secret(self.path, after)
                return True
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be written: {error.strerror}") from None


class _locked:  # noqa: N801 - reads as what it is: with _locked(path)
    """Holds the lock of a file, which goes with the process that dies."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = -1

    def __enter__(self) -> None:
        self._descriptor = os.open(self._path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        until = time.monotonic() + LOCK_S_MAX
        try:
            while True:
                try:
                    fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise KeyProviderUnavailable(
                            "another process is writing the router's identities, and stays there"
                        ) from None
                    time.sleep(LOCK_POLL_S)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __exit__(self, *_exception: object) -> None:
        os.close(self._descriptor)


class SealedText:
    """The text of a file that several processes change, sealed where it lies."""

    def __init__(self, path: Path, wrapping: Wrapping | None = None) -> None:
        """``wrapping`` is what it is sealed with; none: it is as readable as its mode says."""
        self._path = path
        self._file = SecretFile(path)
        self.wrapping = wrapping or _Plain(path)

    async def close(self) -> None:
        """Give up what is open."""
        self._file.close()
        await self.wrapping.close()

    async def read(self) -> str | None:
        """Return the text; None: there is no file. Raises ConfigError, KeyProviderUnavailable."""
        return (await self._read())[1]

    async def change(self, change: Callable[[str | None], str | None]) -> str:
        """Change the text; return what it is by then. None of ``change``: it stays as it is.

        Raises:
            ConfigError, KeyProviderUnavailable: it is not changed, as far as is known.

        """
        for _ in range(CHANGES_MAX):
            data, text = await self._read()
            new = change(text)
            if new is None:
                return text or ""
            wrapped = await self.wrapping.wrap(new.encode())
            # What would not open again is not written over what does.
            if await self.wrapping.unwrap(wrapped) != new.encode():
                raise KeyProviderUnavailable("what it sealed does not open to the same again")
            if await self._file.exchange(data, wrapped):
                return new
        raise KeyProviderUnavailable("other processes change the router's identities all the time")

    async def _read(self) -> tuple[bytes | None, str | None]:
        data = await self._file.read()
        if data is None:
            return None, None
        try:
            return data, (await self.wrapping.unwrap(data)).decode()
        except UnicodeDecodeError:
            raise ConfigError(f"{self._path} is not what it should be: it is not text") from None


class IdentityFile:
    """The identities in a file as age-keygen writes it, sealed or not."""

    def __init__(self, path: Path, wrapping: Wrapping | None = None) -> None:
        """``wrapping`` is what it is sealed with."""
        self.place = path.name
        self._path = path
        self._text = SealedText(path, wrapping)
        self.name = self._text.wrapping.name

    async def close(self) -> None:
        """See `KeyProvider.close`."""
        await self._text.close()

    async def load(self) -> tuple[Identity, ...]:
        """See `KeyProvider.load`."""
        text = await self._text.read()
        return () if text is None else tuple(self._parse(text))

    async def has_copies_note(self) -> bool:
        """Tell whether it was written by a gateway that keeps an identity for manifest copies."""
        return COPIES_NOTE in (await self._text.read() or "")

    async def make(self, key_class: str, *, first: bool = False) -> Identity:
        """See `KeyProvider.make`."""
        made = new_identity(key_class)

        def added(text: str | None) -> str | None:
            # Also where nobody asks for the first: what holds none any more is not begun anew.
            held = () if text is None else self._parse(text)
            if first and of_class(held, key_class):
                return None
            entry = format_identity_file(made, datetime.now(UTC))
            return _with_note(entry if text is None else f"{text.rstrip()}\n{entry}")

        held = self._parse(await self._text.change(added))
        return made if made in held else of_class(held, key_class)[0]

    async def drop(self, recipient: str) -> None:
        """See `KeyProvider.drop`."""

        def without(text: str | None) -> str | None:
            held = [] if text is None else self._parse(text)
            kept = [one for one in held if str(one.recipient()) != recipient]
            if text is None or len(kept) == len(held):
                return None
            if not kept:
                raise only_one(self._path)
            return _with_note(_without(text, recipient))

        await self._text.change(without)

    def _parse(self, text: str) -> list[Identity]:
        try:
            return parse_identities(text)
        except CryptoError as error:
            raise ConfigError(f"{self._path}: {error}") from None


class _Plain:
    """No sealing at all."""

    name = "file"

    def __init__(self, path: Path) -> None:
        self._path = path

    async def wrap(self, text: bytes) -> bytes:
        return text

    async def unwrap(self, data: bytes) -> bytes:
        if data.startswith(SEALED_MAGIC):
            raise ConfigError(
                f"{self._path} is sealed with a passphrase: set key_passphrase_file to the file"
                " that holds it"
            )
        return data

    async def close(self) -> None:
        pass


class HeldKeys:
    """Identities in memory alone: of stress runs, and of tests."""

    name = "memory"
    place = "memory"

    def __init__(self, identities: Sequence[Identity]) -> None:
        """Hold these."""
        self._held = tuple(identities)

    async def load(self) -> tuple[Identity, ...]:
        """See `KeyProvider.load`."""
        return self._held

    async def make(self, key_class: str, *, first: bool = False) -> Identity:
        """See `KeyProvider.make`."""
        if first and (held := of_class(self._held, key_class)):
            return held[0]
        made = new_identity(key_class)
        self._held = (*self._held, made)
        return made

    async def drop(self, recipient: str) -> None:
        """See `KeyProvider.drop`."""
        self._held = tuple(one for one in self._held if str(one.recipient()) != recipient)

    async def close(self) -> None:
        """See `KeyProvider.close`."""


SEALED_MAGIC = b"age-encryption.org/v1"
"""What an age file begins with."""
COPIES_NOTE = "# manifest copies: copies-identity.txt"
"""In a file that a gateway wrote which keeps another identity for manifest copies: the oldest one
here is not that of the copies then."""


def new_identity(key_class: str) -> Identity:
    """Return a fresh identity of a class."""
    return X25519Identity.generate() if key_class == CLASSIC else HybridIdentity.generate()


def only_one(path: Path) -> ConfigError:
    """Return what to raise where nothing would be left."""
    return ConfigError(f"{path}: the only identity is not erased: make one first")


def identity_file(data_dir: Path, wrapping: Wrapping | None = None) -> IdentityFile:
    """Return the identity file of a data folder."""
    return IdentityFile(data_dir / IDENTITY_FILE, wrapping)


def of_class(identities: Sequence[Identity], key_class: str) -> list[Identity]:
    """Return those of a class."""
    return [identity for identity in identities if identity.key_class == key_class]


def _with_note(text: str) -> str:
    return text if COPIES_NOTE in text else f"{COPIES_NOTE}\n\n{text}"


def _without(text: str, recipient: str) -> str:
    """Return the text without the line of an identity, and the comments right above it."""
    kept: list[str] = []
    for line in text.split("\n"):
        entry = line.strip()
        is_identity = bool(entry) and not entry.startswith("#")
        if is_identity and str(parse_identities(entry)[0].recipient()) == recipient:
            while kept and kept[-1].startswith("#"):
                kept.pop()
            continue
        kept.append(line)
    return "\n".join(kept)
