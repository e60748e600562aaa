"""Settings of how long things stay: the policies of a deployment."""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from retention import FOREVER, Mode, Policy, PolicyError

from .backend_settings import ConfigError
from .key_settings import KeySettings

SweepSeconds = Annotated[float, msgspec.Meta(gt=0, le=10 * 365 * 86400)]


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A policy as the configuration names it. Times are whole seconds; left out: for ever."""

    name: str
    """What sessions ask for it by."""
    default_s: int | None = None
    """How long an object lives of which nothing else is said."""
    longest_s: int | None = None
    """How long any may live, from its commit; holds aside."""
    grace_s: int = FOREVER.grace_s
    """For how long an expired object can be had back."""
    mode: Mode = Mode.GOVERNANCE
    """Whether a promise may be taken back: see docs/retention.md."""

    def __post_init__(self) -> None:
        """Check what types alone cannot say."""
        policy = self.policy
        if policy.name == FOREVER.name and policy != FOREVER:
            raise ConfigError(
                f"retention_policies: '{FOREVER.name}' is there always, and means for ever: give"
                " the policy another name"
            )

    @property
    def policy(self) -> Policy:
        """The policy itself."""
        try:
            return Policy(self.name, self.default_s, self.longest_s, self.grace_s, self.mode)
        except PolicyError as error:
            raise ConfigError(f"retention_policies: '{self.name}': {error}") from None


class RetentionSettings(KeySettings, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Part of `Config`. Times are seconds."""

    retention_policies: tuple[PolicySettings, ...] = ()
    """What sessions may ask for, beside ``forever``. What was taken stays as it was: a change here
    counts for sessions that are opened later."""
    retention_policy: str = FOREVER.name
    """The policy of sessions that ask for none."""

    sweep_interval_s: SweepSeconds = 60.0
    """Between sweeps, which let expire what nobody claims any more, and erase it after its
    grace."""
    sweep_share: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.01
    """Of all objects so many may go in a sweep by a clock that has leapt, without an operator's
    word; never less than 100, nor more than half."""
    sweep_leap_s: SweepSeconds = 600.0
    """A clock that is ahead of the last sweep by no more has not leapt, whoever saw it run."""

    @property
    def policies(self) -> Mapping[str, Policy]:
        """The policies by name; ``forever`` is always among them."""
        return {FOREVER.name: FOREVER} | {p.name: p.policy for p in self.retention_policies}


def check_retention(settings: RetentionSettings) -> None:
    """Check what types alone cannot say.

    Raises:
        ConfigError: settings do not go together.

    """
    names = [entry.name for entry in settings.retention_policies]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"retention_policies: '{twice}' is named twice")
    if settings.retention_policy not in settings.policies:
        raise ConfigError(
            f"retention_policy '{settings.retention_policy}' is none of retention_policies:"
            f" {', '.join(settings.policies)}"
        )
