"""The secrets in the data folder, the router's identity and the operator's first token; and what is
shown to who connects over TLS.

Those two are made once, at first start, durable before anything depends on them, readable by the
owner alone. An identity that is missing or different later is a refusal to start, never a new
identity: every object of the deployment would be lost to a fresh one.
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
    _remove_leftovers(path)
    text = read_secret(path)
    # What is registered in the catalog next is registered for good: so must the file be there.
    sync_folder(path.parent)
    return text


def _remove_leftovers(path: Path) -> None:
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
        # One descriptor for check and read; a link or a pipe in its place is not our file.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, encoding="utf-8") as file:
            found = os.fstat(file.fileno())
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
                raise ConfigError(f"{path} must be a file of the user that runs the gateway")
            if stat.S_IMODE(found.st_mode) & 0o077:
                raise ConfigError(f"{path} may be read by others: run chmod 600 {path}")
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}") from None


def load_identity(data_dir: Path) -> Identity | None:
    """Return the router's identity, or None when the folder has none.

    Raises:
        ConfigError: the file is there but not usable.

    """
    path = data_dir / IDENTITY_FILE
    if not path.exists():
        return None
    try:
        identities = parse_identities(load_secret(path))
    except CryptoError as error:
        raise ConfigError(f"{path}: {error}") from None
    if len(identities) != 1:
        raise ConfigError(f"{path} must hold exactly one identity, it holds {len(identities)}")
    if identities[0].key_class != CLASSIC:
        raise ConfigError(f"{path} must hold a {CLASSIC} identity: sessions take no others yet")
    return identities[0]


def make_identity(data_dir: Path) -> Identity:
    """Make the router's identity, or return the one that another process made meanwhile."""
    text = format_identity_file(X25519Identity.generate(), datetime.now(UTC))
    with contextlib.suppress(FileExistsError):
        write_secret(data_dir / IDENTITY_FILE, text)
    identity = load_identity(data_dir)
    if identity is None:
        raise ConfigError(f"{data_dir / IDENTITY_FILE} vanished while starting")
    return identity


def recipient_of_copies(config: Config, identity: Identity) -> Recipient:
    """Return whom copies of manifests are sealed to.

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
