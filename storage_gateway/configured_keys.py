"""The key provider that is configured, with the secrets that it takes."""

import asyncio

from crypto import SEED_SIZE_MIN, Identity, Secret

from .config import Config, ConfigError
from .custody import IDENTITY_FILE, read_secret
from .key_passphrase import Passphrase
from .key_provider import IdentityFile, KeyProvider, identity_file
from .key_seed import SeedKeys
from .key_settings import too_short
from .key_transit import Transit
from .keyring import Keyring

SALTS_FILE = "router-salts.txt"
TRANSIT_FILE = "router-identity.transit"


def provider_of(config: Config) -> KeyProvider:
    """Return the configured key provider; nothing is asked or opened yet.

    Raises:
        ConfigError: its secrets cannot be read.

    """
    if config.key_provider == "seed":
        return SeedKeys(config.data_dir / SALTS_FILE, _seed_of(config))
    if config.key_provider == "transit":
        return IdentityFile(config.data_dir / TRANSIT_FILE, Transit(config))
    return identity_file(config.data_dir, passphrase_of(config))


def passphrase_of(config: Config) -> Passphrase | None:
    """Return what the identity file is sealed with, if it is; read from its file.

    Raises:
        ConfigError: it cannot be read, or is empty.

    """
    file = config.key_passphrase_file
    if file is None:
        return None
    # Its one line, as a terminal would give it.
    passphrase = read_secret(file).removesuffix("\n").removesuffix("\r")
    if not passphrase:
        raise ConfigError(f"{file} holds no passphrase")
    return Passphrase(config.data_dir / IDENTITY_FILE, Secret(passphrase.encode()))


def _seed_of(config: Config) -> Secret:
    if config.key_seed is not None:
        return config.key_seed
    if config.key_seed_file is None:
        raise ConfigError("key_provider seed has no seed")
    seed = Secret(read_secret(config.key_seed_file).strip().encode())
    if len(seed) < SEED_SIZE_MIN:
        raise too_short(str(config.key_seed_file))
    return seed


def keyring_of(config: Config) -> Keyring:
    """Return the keyring of the configured provider; see `provider_of`."""
    return Keyring(
        provider_of(config),
        refresh_s=config.key_refresh_s,
        fresh_s=config.key_fresh_s,
        ttl_s=config.key_ttl_s,
        timeout_s=config.key_timeout_s,
        seals_while_away=config.key_provider_away == "seal",
    )


async def load_all(config: Config) -> tuple[Identity, ...]:
    """Return what the configured provider holds, asked once; nothing when it holds nothing yet.

    Raises:
        ConfigError, KeyProviderUnavailable

    """
    keyring = await asyncio.to_thread(keyring_of, config)
    try:
        await keyring.refresh()
        return keyring.opening()
    finally:
        await keyring.close()
