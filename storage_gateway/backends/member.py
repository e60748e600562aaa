"""One of several stores that are one: where it stands, and how it did."""

from .contract import KeyedStore
from .health import Breaker, Latency


class Member:
    """A store, where it stands, and how it did."""

    def __init__(self, store: KeyedStore, *, domain: str, ready: bool = True) -> None:
        """``domain`` is the failure domain.

        A store that is not ``ready`` is not written to, and what it lacks is not missing.
        """
        self.store = store
        self.domain = domain
        self.ready = ready
        """It was seen to be this deployment's: else it may be a mount point without its disk."""
        self.lagging = 0
        self.reads = Breaker()
        self.writes = Breaker()
        self.latency = Latency()

    @property
    def name(self) -> str:
        """The store's name."""
        return self.store.name
