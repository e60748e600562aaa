"""Settings of the place that keeps the router's identities, and of what is done without it."""

from typing import Annotated

import msgspec

from .backend_settings import ConfigError

KeySeconds = Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 86400)]


class KeySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part of `Config`. Times are seconds."""

    key_provider: Annotated[str, msgspec.Meta(pattern=r"^(file)\Z")] = "file"
    """What keeps the router's identities: see docs/keys.md."""
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
