"""What sessions want of the stores: what of it this deployment can do, and which stores it means.

Only where payloads are written to and read from. Erasing and recovery look into every store: what
is there by mistake is to go, too.
"""

from collections.abc import Collection, Mapping, Sequence

from .backends import KeyedStore, Replicas
from .backends.ipfs_gateway import IPFSGateway
from .backends.last_resort import LastResort
from .errors import BackendUnavailable, InvalidField, PlacementImpossible
from .records import ALL_OPEN, Wanted


class WantedStores:
    """The configured stores, as far as sessions want them."""

    def __init__(
        self,
        store: KeyedStore,
        domains: Mapping[str, str],
        *,
        write_quorum: int,
        gateways: Sequence[IPFSGateway] = (),
        nodes: Collection[str] = (),
    ) -> None:
        """``domains`` are the failure domains of the stores, by name, ``store`` what they make
        together, and the quorum the deployment's. ``gateways`` are those of IPFS that sessions may
        name, too, and ``nodes`` the names of the stores whose payloads may come there.

        A store that hides what it is made of, as in a stress run, is used as a whole.
        """
        self._store = store
        self._domains = dict(domains)
        self._write_quorum = write_quorum
        self._gateways = {gateway.name: gateway for gateway in gateways}
        self._nodes = frozenset(nodes)

    def check(self, wanted: Wanted) -> None:
        """Refuse what a session could not have.

        Raises:
            InvalidField: a backend is unknown or named twice, there is none, they are in too few
                failure domains for the quorum, or a gateway has nothing to be asked for.

        """
        names = self._names(wanted)
        if not names:
            raise InvalidField("backends must name at least one, or be left out", field="backends")
        for at, name in enumerate(names):
            if name not in self._domains and name not in self._gateways:
                configured = ", ".join([*self._domains, *self._gateways])
                raise InvalidField(
                    f"no such backend is configured; there are: {configured}",
                    field=f"backends[{at}]",
                )
            if name in names[:at]:
                raise InvalidField(f"backend {name} is named twice", field=f"backends[{at}]")
            if name in self._gateways and self._nodes.isdisjoint(names):
                raise InvalidField(
                    f"backend {name} is a gateway of IPFS, where no other backend of these brings"
                    f" payloads: name one of {', '.join(sorted(self._nodes))} beside it",
                    field=f"backends[{at}]",
                )
        domains = self._count_domains(names)
        if wanted.write_quorum is None and self._write_quorum > domains:
            raise InvalidField(
                f"the deployment's write_quorum is {self._write_quorum}, but these backends are in"
                f" {domains} failure domains: give a write_quorum for them, or more of them",
                field="write_quorum",
            )
        if not 1 <= self._quorum(wanted) <= domains:
            raise InvalidField(
                f"write_quorum must be from 1 to {domains}, the failure domains of the backends",
                field="write_quorum",
            )

    def for_writes(self, wanted: Wanted) -> KeyedStore:
        """Return the store that a session's payloads go to.

        Raises:
            PlacementImpossible: the configuration is not what it was when the session was opened.

        """
        if wanted == ALL_OPEN:
            return self._store
        names, quorum = self._names(wanted), self._quorum(wanted)
        missing = [n for n in names if n not in self._domains and n not in self._gateways]
        if missing:
            raise PlacementImpossible(
                f"the session wants backends that are not configured: {', '.join(missing)}"
            )
        domains = self._count_domains(names)
        if quorum > domains:
            raise PlacementImpossible(
                f"the session's write_quorum is {quorum}, but {', '.join(names)} are in {domains}"
                " failure domains"
            )
        return self._among(names, quorum)

    def for_reads(self, backends: Collection[str] | None) -> KeyedStore:
        """Return the store that can have payloads which were wanted in these alone.

        Raises:
            BackendUnavailable: none of them is configured any more.

        """
        if backends is None:
            return self._store
        if not self._count_domains(backends):
            raise BackendUnavailable("none of the stores that the session wants is configured")
        return self._among(backends, 1)

    def for_parties(self, backends: Collection[str] | None) -> KeyedStore | LastResort:
        """Return the same with the gateways that the session named: for who may read it alone."""
        store = self.for_reads(backends)
        gateways = [g for name, g in self._gateways.items() if name in (backends or ())]
        return LastResort(store, gateways) if gateways and isinstance(store, Replicas) else store

    def _names(self, wanted: Wanted) -> tuple[str, ...]:
        return tuple(self._domains) if wanted.backends is None else wanted.backends

    def _quorum(self, wanted: Wanted) -> int:
        return self._write_quorum if wanted.write_quorum is None else wanted.write_quorum

    def _count_domains(self, names: Collection[str]) -> int:
        return len({self._domains[name] for name in names if name in self._domains})

    def _among(self, names: Collection[str], write_quorum: int) -> KeyedStore:
        if not isinstance(self._store, Replicas):
            return self._store
        return self._store.among(names, write_quorum=write_quorum)
