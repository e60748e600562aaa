"""Settings of the place that keeps the router's identities, and of what is done without it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec

from crypto import SEED_SIZE_MIN, Secret

from .backend_settings import ConfigError, is_loopback

SEED_VARIABLE = "ENCRYPTION_SEED"
"""The network's name for a seed."""
PathName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")]
MountPath = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_/-]{0,127}\Z")]

KeySeconds = Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 86400)]


class KeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part of `Config`. Times are seconds."""

    key_provider: Annotated[str, msgspec.Meta(pattern=r"^(file|seed|transit)\Z")] = "file"
    """What keeps the router's identities: see docs/keys.md."""
    key_passphrase_file: Path | None = None
    """With the provider ``file``: what the identity file is sealed with, as by ``age -p``."""
    key_seed: Secret | None = None
    """With the provider ``seed``: what the identities come of, at least 32 bytes. Else
    ``key_seed_file``, or ENCRYPTION_SEED in the environment."""
    key_seed_file: Path | None = None
    key_transit_url: str | None = None
    """With the provider ``transit``: ``https://HOST[:PORT]`` of OpenBao or Vault; ``http`` only on
    this machine."""
    key_transit_mount: MountPath = "transit"
    key_transit_key: PathName = "storage-gateway"
    """The name of the key there."""
    key_transit_token_file: Path | None = None
    """Read with each question: who renews it may replace it."""
    key_transit_ca_file: Path | None = None
    """Certificates of the authority that the server's is from, if not one of the usual ones."""
    key_timeout_s: KeySeconds = 5.0
    """How long one answer of the provider is waited for."""
    key_refresh_s: KeySeconds = 60.0
    """Between questions to it."""
    key_fresh_s: KeySeconds = 300.0
    """How old its last answer may be for something new to be sealed."""
    key_ttl_s: KeySeconds = 3600.0
    """How old it may be for something to be opened; then the identities go from memory."""
    key_provider_away: Annotated[str, msgspec.Meta(pattern=r"^(refuse_seals|seal)\Z")] = (
        "refuse_seals"
    )
    """Whether uploads are refused after ``key_fresh_s``, or taken until ``key_ttl_s`` is over."""


def check_keys(settings: KeySettings) -> None:
    """Check what types alone cannot say.

    Raises:
        ConfigError: settings do not go together.

    """
    if settings.key_fresh_s < settings.key_refresh_s + settings.key_timeout_s:
        raise ConfigError("key_fresh_s must be at least key_refresh_s and key_timeout_s together")
    if settings.key_ttl_s < settings.key_fresh_s:
        raise ConfigError("key_ttl_s must be at least key_fresh_s")
    if settings.key_provider == "seed":
        _check_seed(settings)
    if settings.key_provider == "transit":
        _check_transit(settings)


def with_seed(settings: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    """Return settings with the seed that the environment names, where it is wanted."""
    wanted = settings.get("key_provider") == "seed" and "key_seed_file" not in settings
    seed = environment.get(SEED_VARIABLE)
    return {"key_seed": seed, **settings} if wanted and seed else dict(settings)


def _check_seed(settings: KeySettings) -> None:
    if (settings.key_seed is None) == (settings.key_seed_file is None):
        raise ConfigError(
            f"key_provider seed needs either key_seed_file or {SEED_VARIABLE} in the environment"
        )
    if settings.key_seed is not None and len(settings.key_seed) < SEED_SIZE_MIN:
        raise too_short(SEED_VARIABLE)


def too_short(where: str) -> ConfigError:
    """Return what to raise where a seed could be guessed."""
    return ConfigError(
        f"the seed in {where} must have at least {SEED_SIZE_MIN} bytes, all of them random: make"
        " one with openssl rand -hex 32"
    )


def _check_transit(settings: KeySettings) -> None:
    if settings.key_transit_url is None or settings.key_transit_token_file is None:
        raise ConfigError("key_provider transit needs key_transit_url and key_transit_token_file")
    try:
        parts = urlsplit(settings.key_transit_url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    plain = (parts.username, parts.query, parts.fragment) == (None, "", "")
    if host is None or parts.scheme not in ("https", "http") or not plain:
        raise ConfigError("key_transit_url must be like https://bao.example:8200")
    if parts.scheme == "http" and not is_loopback(host):
        raise ConfigError(
            "key_transit_url: the router's identities would cross the network in clear: use https"
        )
