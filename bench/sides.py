"""Whom we are compared with in sealing and opening, each with three recipients if it has any.

Whichever key opens, it is that of the last recipient. A side's library is imported when the side is
made: peers live in another environment than ours (requirements/bench.lock). Runs in `bench.worker`.
"""

import importlib
import importlib.metadata
import io
import logging
import os
import shutil
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

RECIPIENTS = 3


class SideMissing(Exception):
    """What the side measures is not installed; the text says what."""


class Side(ABC):
    """One implementation; `take` a plaintext first, then `seal` it and `open` what was sealed."""

    plaintext = b""
    sealed: Any = None
    opened: Any = None

    @property
    @abstractmethod
    def version(self) -> str:
        """Name and version."""

    def take(self, plaintext: bytes) -> None:
        """Get ready for another plaintext."""
        self.plaintext = plaintext
        self.sealed = self.opened = None

    @abstractmethod
    def seal(self) -> None:
        """Seal the plaintext anew into `sealed`."""

    @abstractmethod
    def open(self) -> None:
        """Open `sealed` into `opened`."""

    def gave_back(self) -> bool:
        """Return whether what was opened last is the plaintext."""
        return bool(self.opened == self.plaintext)

    def works(self) -> dict[str, Callable[[], object]]:
        """Return what can be timed, by name."""
        return {"seal": self.seal, "open": self.open}


def _imported(name: str) -> Any:  # noqa: ANN401 - the package may not be in this environment
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SideMissing(str(error)) from error


def _version(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


class Pyrage(Side):
    """age in Rust."""

    def __init__(self, _folder: Path) -> None:
        """Make three identities."""
        self._pyrage = _imported("pyrage")
        identities = [self._pyrage.x25519.Identity.generate() for _ in range(RECIPIENTS)]
        self._recipients = [identity.to_public() for identity in identities]
        self._last = identities[-1:]

    @property
    def version(self) -> str:
        return _version("pyrage")

    def seal(self) -> None:
        self.sealed = self._pyrage.encrypt(self.plaintext, self._recipients)

    def open(self) -> None:
        self.opened = self._pyrage.decrypt(self.sealed, self._last)


class AgeCommand(Side):
    """age in Go as a command: each call starts a process, reads a file and writes a file."""

    def __init__(self, folder: Path) -> None:
        """Make three identities, in files."""
        found, keygen = shutil.which("age"), shutil.which("age-keygen")
        if found is None or keygen is None:
            raise SideMissing("no command age and age-keygen")
        self._age = found
        self._in, self._sealed, self._opened = (folder / name for name in ("in", "in.age", "out"))
        self._keys = [folder / f"key{number}" for number in range(RECIPIENTS)]
        self._recipients: list[str] = []
        for key in self._keys:
            subprocess.run([keygen, "-o", key], check=True, capture_output=True)
            public = subprocess.run([keygen, "-y", key], check=True, capture_output=True, text=True)
            self._recipients += ["-r", public.stdout.strip()]

    @property
    def version(self) -> str:
        said = subprocess.run([self._age, "--version"], check=True, capture_output=True, text=True)
        return f"age {said.stdout.strip()}"

    def take(self, plaintext: bytes) -> None:
        super().take(plaintext)
        self._in.write_bytes(plaintext)

    def seal(self) -> None:
        self._run(*self._recipients, "-o", str(self._sealed), str(self._in))

    def open(self) -> None:
        self._run("-d", "-i", str(self._keys[-1]), "-o", str(self._opened), str(self._sealed))

    def gave_back(self) -> bool:
        return self._opened.read_bytes() == self.plaintext

    def works(self) -> dict[str, Callable[[], object]]:
        return {**super().works(), "start": lambda: self._run("--version")}

    def _run(self, *arguments: str) -> None:
        subprocess.run([self._age, *arguments], check=True, capture_output=True)


class Crypt4GH(Side):
    """Crypt4GH, of genomics: libsodium under Python, segments of 64 KiB, X25519 recipients."""

    def __init__(self, _folder: Path) -> None:
        """Make a writer and three readers."""
        self._lib, sodium = _imported("crypt4gh.lib"), _imported("crypt4gh.sodium")
        logging.disable()  # it tells of each packet that is for another reader
        writer, *readers = (os.urandom(32) for _ in range(1 + RECIPIENTS))
        self._sealing = [(0, writer, sodium.derive_pk(reader)) for reader in readers]
        self._opening = [(0, readers[-1], None)]

    @property
    def version(self) -> str:
        return _version("crypt4gh")

    def seal(self) -> None:
        out = io.BytesIO()
        self._lib.encrypt(self._sealing, io.BytesIO(self.plaintext), out)
        self.sealed = out.getvalue()

    def open(self) -> None:
        out = io.BytesIO()
        self._lib.decrypt(self._opening, io.BytesIO(self.sealed), out)
        self.opened = out.getvalue()


class AWSEncryptionSDK(Side):
    """AWS Encryption SDK with three raw AES keyrings in a multi-keyring.

    As fast as it gets: without the ECDSA signature that is its default, and with frames of 64 KiB
    instead of 4 (measured against 1 MiB, too).
    """

    def __init__(self, _folder: Path) -> None:
        """Make three keyrings."""
        self._sdk = _imported("aws_encryption_sdk")
        identifiers = _imported("aws_encryption_sdk.identifiers")
        providers = _imported("aws_cryptographic_material_providers.mpl")
        config = _imported("aws_cryptographic_material_providers.mpl.config")
        models = _imported("aws_cryptographic_material_providers.mpl.models")
        library = providers.AwsCryptographicMaterialProviders(config.MaterialProvidersConfig())
        rings = [
            library.create_raw_aes_keyring(
                models.CreateRawAesKeyringInput(
                    key_namespace="bench",
                    key_name=f"key {number}",
                    wrapping_key=os.urandom(32),
                    wrapping_alg=models.AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
                )
            )
            for number in range(RECIPIENTS)
        ]
        both = models.CreateMultiKeyringInput(generator=rings[0], child_keyrings=rings[1:])
        self._all, self._last = library.create_multi_keyring(both), rings[-1]
        self._algorithm = identifiers.AlgorithmSuite.AES_256_GCM_HKDF_SHA512_COMMIT_KEY
        self._client = self._sdk.EncryptionSDKClient()

    @property
    def version(self) -> str:
        return _version("aws-encryption-sdk")

    def seal(self) -> None:
        self.sealed, _ = self._client.encrypt(
            source=self.plaintext,
            keyring=self._all,
            algorithm=self._algorithm,
            frame_length=1 << 16,
        )

    def open(self) -> None:
        self.opened, _ = self._client.decrypt(source=self.sealed, keyring=self._last)


class Tink(Side):
    """Tink's streaming AEAD, segments of 1 MiB. It has no recipients: one symmetric key."""

    def __init__(self, _folder: Path) -> None:
        """Make a keyset."""
        tink, streaming = _imported("tink"), _imported("tink.streaming_aead")
        streaming.register()
        template = streaming.streaming_aead_key_templates.AES256_GCM_HKDF_1MB
        handle = tink.new_keyset_handle(template)
        self._primitive = handle.primitive(streaming.StreamingAead)

    @property
    def version(self) -> str:
        return _version("tink")

    def seal(self) -> None:
        out = _Kept()
        with self._primitive.new_encrypting_stream(out, b"") as stream:
            stream.write(self.plaintext)
        self.sealed = out.getvalue()

    def open(self) -> None:
        with self._primitive.new_decrypting_stream(io.BytesIO(self.sealed), b"") as stream:
            self.opened = stream.read()


class _Kept(io.BytesIO):
    """A buffer that can be read after Tink closed it."""

    def close(self) -> None:
        """Stay open."""
