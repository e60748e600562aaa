"""What the cases of stores that fail have in common: who erases is heard at once."""

from collections.abc import Sequence

from storage_gateway.errors import Erased
from storage_gateway.records import ObjectState

from .load import Customer
from .record import OK
from .trial import Trial


async def erase_all(
    trial: Trial,
    customer: Customer,
    urns: Sequence[str],
    criterion: str,
    *,
    state: ObjectState | None = None,
) -> None:
    """Erase objects; require that each is unreadable from then on, and answered in that state."""
    wrong = []
    for urn in urns:
        trial.ledger.erased.add(urn)
        answer = await customer.erase(urn)
        read = await customer.fetch(urn, size=0)
        told = str(answer.document.get("state", ""))
        if (answer.outcome, read.outcome) != (OK, Erased.code) or told != (state or told):
            wrong.append(
                f"erasing {urn} came to {answer.outcome} {told}, reading to {read.outcome}"
            )
    trial.require_all(criterion, wrong)
