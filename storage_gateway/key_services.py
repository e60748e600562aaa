"""Putting together what works on keys: the registry, and the jobs that follow a rotation."""

from collections.abc import Awaitable, Callable
from concurrent.futures import Executor

from crypto import Challenger

from .backends import KeyedStore
from .config import Config
from .instance import Instance
from .jobs import Jobs
from .key_states import Dwell
from .migrate import Migrate
from .parts import Parts
from .read import Reads
from .records import Wanted
from .registry import Registry
from .reseal import Reseal
from .rewrap import Rewrap
from .write import Uploads


def make_registry(
    config: Config, parts: Parts, *, bring_copy: Callable[[str], Awaitable[None]]
) -> Registry:
    """Return the registry; ``bring_copy`` is as it takes it."""
    return Registry(
        parts.catalog,
        challenger=Challenger(parts.copies_identity),
        keyring=parts.keyring,
        copies_key=str(parts.copies_identity.recipient()),
        dwell=Dwell(config.key_retiring_s, config.key_disabled_s),
        miners_max=config.miners_max,
        token_lifetime_s=config.token_lifetime_s,
        bring_copy=bring_copy,
        nodes=[node.name for node in parts.nodes],
    )


def make_jobs(
    config: Config,
    parts: Parts,
    instance: Instance,
    reads: Reads,
    uploads: Uploads,
    *,
    threads: Executor,
    store_of: Callable[[Wanted], KeyedStore],
) -> Jobs:
    """Return the jobs; nothing is begun. ``store_of`` is `WantedStores.for_writes`."""
    catalog, keyring = parts.catalog, parts.keyring
    reseal = Reseal(
        catalog,
        reads=reads,
        uploads=uploads,
        keyring=keyring,
        store_of=store_of,
        grace_s=config.read_grace_s,
    )
    return Jobs(
        catalog,
        instance_id=instance.instance_id,
        kinds={
            "rewrap": Rewrap(catalog, threads=threads, keyring=keyring),
            "reseal": reseal,
            "migrate": Migrate(catalog, reseal),
        },
        hold_lease=instance.hold,
        jobs_max=config.jobs_max,
    )
