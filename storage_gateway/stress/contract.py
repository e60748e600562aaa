"""What a stress case is: one edge case, said in a sentence, provoked, and judged by invariants."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from storage_gateway.backend_settings import Backend

from .invariants import INVARIANTS
from .parameters import Parameters
from .run_stores import Need
from .trial import Trial

P = TypeVar("P", bound=Parameters)


def bytes_of_a_body(parameters: Parameters) -> int:
    """Return what the largest body makes, sent and read back."""
    return 2 * max(parameters.sizes)


def bytes_of_bodies(count: int, *others: int) -> Callable[[Parameters], int]:
    """Return what says how much so many of the largest bodies make, and others of these sizes."""
    return lambda parameters: 2 * (count * max(parameters.sizes) + sum(others))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(Generic[P]):
    """One case. Its file says all of it; `run` provokes, and notes what it saw in the trial."""

    name: str
    edge_case: str
    """One sentence: what may go wrong."""
    fault: str
    load: str
    passes_when: str
    invariants: tuple[int, ...]
    """Those that the case could break, by their numbers in `INVARIANTS`; each must be judged."""
    parameters: type[P]
    expected_s: float
    """About how long it takes with its defaults."""
    bytes_min: Callable[[P], int] = bytes_of_a_body
    """What it sends and reads back at least, to be what it says."""
    stores: int = 1
    """In how many failure domains it needs a store; what the deployment lacks are folders of the
    run's own. With more than one it has a quorum of its own, too."""
    quorum: int = 1
    needs: Need | None = None
    """What must be among the deployment's backends."""
    run: Callable[[Trial, P], Awaitable[None]]

    def runs_on(self, backends: tuple[Backend, ...]) -> bool:
        """Tell whether it can be run on a deployment with these backends."""
        return self.needs is None or self.needs.is_met(backends)

    def as_json(self, backends: tuple[Backend, ...]) -> dict[str, Any]:
        """Return how the case is listed by a deployment with these backends, with the JSON Schema
        of its parameters.
        """
        schemas, components = msgspec.json.schema_components([self.parameters])
        (schema,) = components.values() if "$ref" in schemas[0] else schemas
        return {
            "case": self.name,
            "edge_case": self.edge_case,
            "fault": self.fault,
            "load": self.load,
            "passes_when": self.passes_when,
            "invariants": {str(number): INVARIANTS[number].text for number in self.invariants},
            "expected_s": self.expected_s,
            "stores": self.stores,
            "needs": None if self.needs is None else self.needs.text,
            "runs_here": self.runs_on(backends),
            "parameters": schema,
        }
