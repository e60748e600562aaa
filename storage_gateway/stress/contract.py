"""What a stress case is: one edge case, said in a sentence, provoked, and judged by invariants."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from .invariants import INVARIANTS
from .parameters import Parameters
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
    run: Callable[[Trial, P], Awaitable[None]]

    def as_json(self) -> dict[str, Any]:
        """Return how the case is listed, with the JSON Schema of its parameters."""
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
            "parameters": schema,
        }
