"""The secrets in the data folder: how such files are written and read, the identity of the manifest
copies; and what is shown to who connects over TLS.

They are made once, at first start, durable before anything depends on them, readable by the owner
alone. An identity that is missing or different later is a refusal to start, never a new identity:
everything that hangs on it would be lost to a fresh one. The router's are in `key_provider`.
"""

import contextlib
import errno
import os
import secrets
import ssl
import stat
from datetime import UTC, datetime
from pathlib import Path

from crypto import (
    CLASSIC,
    CryptoError,
    Identity,
    Recipient,
    X25519Identity,
    format_identity_file,
    parse_identities,
    parse_recipient,
    recovery_identity,
)

from .config import Config, ConfigError

IDENTITY_FILE = "router-identity.txt"
COPIES_FILE = "copies-identity.txt"
OPERATOR_TOKEN_FILE = "operator-token"  # noqa: S105 - a file's name
SECRET_MODE = 0o600
FOLDER_MODE = 0o700


def make_data_dir(path: Path) -> None:
    """Make the data folder, durably: its own name must survive a power cut, too.

    Raises:
        ConfigError: others than the owner may write into it.

    """
    missing = [path.absolute()]
    while not missing[-1].parent.exists():
        missing.append(missing[-1].parent)
    for folder in reversed(missing):
        folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync_folder(folder.parent)
    found = path.stat()
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise ConfigError(
            f"{path} belongs to, or may be written by, somebody else, who could put an identity"
            f" and a token there: run chown and chmod 700 {path}"
        )


def write_secret(path: Path, text: str) -> None:
    """Create a file, whole or not at all, with mode 0600; an existing one stays.

    Its content is durable then; its name is once `load_secret` returned it.

    Raises:
        FileExistsError: there is one already.

    """
    # Not named by the process id: containers on one volume have the same.
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SECRET_MODE)
    try:
        try:
            if os.write(descriptor, text.encode()) != len(text.encode()):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        # A link, unlike a rename, does not replace what another process made meanwhile.
        path.hardlink_to(temporary)
    finally:
        # Another process that starts now may have taken it for what a crash left.
        temporary.unlink(missing_ok=True)


def load_secret(path: Path) -> str:
    """Return the text of a secret that `write_secret` made, here or in another process.

    Raises:
        ConfigError: as `read_secret`.

    """
    remove_second_names(path)
    text = read_secret(path)
    # What is registered in the catalog next is registered for good: so must the file be there.
    sync_folder(path.parent)
    return text


def replace_secret(path: Path, data: bytes) -> None:
    """Have a file with mode 0600 hold this, durably: it holds what it did until then, or all of it.

    Raises:
        OSError: it holds what it did, unless only the last step failed.

    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}.tmp")
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SECRET_MODE)
    try:
        try:
            if os.write(descriptor, data) != len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def remove_leftovers(path: Path) -> None:
    """Remove what crashes within `replace_secret` left. Nobody else may be writing the file."""
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        leftover.unlink(missing_ok=True)


def remove_second_names(path: Path) -> None:
    """Remove what a crash within `write_secret` left: a second name of the secret."""
    for leftover in path.parent.glob(f"{path.name}.*.tmp"):
        with contextlib.suppress(FileNotFoundError):  # the process that writes it has just ended
            if leftover.stat(follow_symlinks=False).st_nlink > 1:
                leftover.unlink()


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_secret(path: Path) -> str:
    """Return the text of a secret file.

    Raises:
        ConfigError: others than the owner may read it, or it cannot be read.

    """
    try:
        return read_secret_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}") from None


def read_secret_bytes(path: Path) -> bytes:
    """Return what a secret file holds.

    Raises:
        ConfigError: as `read_secret`.

    """
    try:
        # One descriptor for check and read; a link or a pipe in its place is not our file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise ConfigError(f"{path} must be a file of the user that runs the gateway")
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise ConfigError(f"{path} may be read by others: run chmod 600 {path}")
            return file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}") from None


def load_copies_identity(data_dir: Path) -> X25519Identity | None:
    """Return the identity that signs manifest copies, or None when the folder has none.

    Raises:
        ConfigError: the file is there but not usable.

    """
    path = data_dir / COPIES_FILE
    if not path.exists():
        return None
    try:
        identities = parse_identities(load_secret(path))
    except CryptoError as error:
        raise ConfigError(f"{path}: {error}") from None
    if len(identities) != 1 or not isinstance(identities[0], X25519Identity):
        raise ConfigError(f"{path} must hold exactly one identity, of class {CLASSIC}")
    return identities[0]


def make_copies_identity(data_dir: Path, identity: Identity | None = None) -> X25519Identity:
    """Keep this identity for the manifest copies, or a fresh one; or return the one that another
    process made meanwhile.

    Raises:
        ConfigError: as `load_copies_identity`.

    """
    text = format_identity_file(identity or X25519Identity.generate(), datetime.now(UTC))
    with contextlib.suppress(FileExistsError):
        write_secret(data_dir / COPIES_FILE, text)
    made = load_copies_identity(data_dir)
    if made is None:
        raise ConfigError(f"{data_dir / COPIES_FILE} vanished while starting")
    return made


def recipient_of_copies(config: Config, identity: Identity) -> Recipient:
    """Return whom copies of manifests are sealed to; ``identity`` is the one that signs them.

    Raises:
        ConfigError: the setting is no recipient.

    """
    if config.recovery_recipient is None:
        return recovery_identity(identity).recipient()
    try:
        return parse_recipient(config.recovery_recipient)
    except CryptoError as error:
        raise ConfigError(f"recovery_recipient: {error}") from None


def tls_context(config: Config) -> ssl.SSLContext | None:
    """Return what the gateway shows who connects; None: it is asked in clear. Blocks.

    Raises:
        ConfigError: certificate or key cannot be used.

    """
    if config.tls_certificate is None or config.tls_key is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # No passphrase: else OpenSSL would ask for one at the terminal, and wait.
        context.load_cert_chain(config.tls_certificate, config.tls_key, password="")
    except OSError as error:  # a key that does not fit is one, too
        raise ConfigError(
            f"{config.tls_certificate} and {config.tls_key} cannot be used ({error.strerror}):"
            " both must be PEM, the key that of the certificate and not encrypted"
        ) from error
    return context


def copies_missing(config: Config) -> ConfigError:
    """Return what to raise where the identity of the manifest copies is gone."""
    return ConfigError(
        f"the identity of the manifest copies, {COPIES_FILE}, is missing from {config.data_dir}:"
        " restore it from a backup; without it no copy can be trusted, nor opened"
    )
