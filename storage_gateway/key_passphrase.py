"""An identity file that a passphrase opens: a stock `age -p` file, opened here with the passphrase
that another file holds.
"""

import asyncio
import hmac
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from crypto import CryptoError, NoIdentityMatch, Secret, open_with_passphrase, seal_with_passphrase

from .config import ConfigError
from .key_provider import SEALED_MAGIC

WORK_FACTOR = 18


class Passphrase:
    """Seals with a passphrase. Each time takes a second of a processor, so what was opened is kept
    for as long as the file is the same.
    """

    name = "file"

    def __init__(self, path: Path, passphrase: Secret, *, work_factor: int = WORK_FACTOR) -> None:
        """``path`` is the identity file, for people."""
        self._path = path
        self._passphrase = passphrase
        self._work_factor = work_factor
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="passphrase")
        self._opened: tuple[bytes, Secret] | None = None

    async def close(self) -> None:
        """Forget what was opened."""
        self._opened = None
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def wrap(self, text: bytes) -> bytes:
        """See `Wrapping.wrap`."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._seal, text)

    async def unwrap(self, data: bytes) -> bytes:
        """See `Wrapping.unwrap`."""
        if self._opened is not None and hmac.compare_digest(self._opened[0], data):
            return self._opened[1].expose()
        if not data.startswith(SEALED_MAGIC):
            raise ConfigError(
                f"{self._path} is not sealed, and key_passphrase_file is set: seal it with"
                f" age -p -o sealed.age {self._path.name}, run chmod 600 sealed.age, and put it in"
                " its place; or unset key_passphrase_file"
            )
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._open, data)

    def _seal(self, text: bytes) -> bytes:
        return seal_with_passphrase(text, self._passphrase, work_factor=self._work_factor)

    def _open(self, data: bytes) -> bytes:
        # Kept here, and looked for here: where it takes longer than the provider is waited for,
        # nobody is left to take it, and the next who asks finds it.
        if self._opened is not None and hmac.compare_digest(self._opened[0], data):
            return self._opened[1].expose()
        try:
            text = open_with_passphrase(data, self._passphrase)
        except NoIdentityMatch:
            raise ConfigError(f"the passphrase does not open {self._path}") from None
        except CryptoError as error:
            raise ConfigError(f"{self._path}: {error}") from None
        self._opened = (data, Secret(text))
        return text
