"""What brings a record's copy to the stores, once it was written."""

from collections.abc import Callable

from .catalog.outbox import Due, is_copied
from .manifest_copies import OBJECT, RETENTION, SESSION
from .outbox import Outbox
from .records import Manifest


class Bringing:
    """Of one gateway process. Each returns once as many stores have the copy as must.

    Each raises CopiesLate where they have not, in time: the record stands, and the copy will come.
    """

    def __init__(self, outbox: Callable[[], Outbox]) -> None:
        """``outbox`` returns what brings them."""
        self._outbox = outbox

    async def of_object(self, manifest: Manifest, *, again: bool = False) -> None:
        """Bring the manifest's."""
        if is_copied(manifest.slot.session_id):
            due = Due(OBJECT, manifest.object_id, manifest.generation)
            await self._outbox().acknowledge(due, again=again)

    async def of_session(self, session_id: str) -> None:
        """Bring a session's, of whatever generation it has by now, and perhaps again."""
        if is_copied(session_id):
            await self._outbox().acknowledge(Due(SESSION, session_id, 1), again=True)

    async def of_claims(self, session_id: str, object_id: str) -> None:
        """Bring that of what is claimed of an object, as `of_session`."""
        if is_copied(session_id):
            await self._outbox().acknowledge(Due(RETENTION, object_id, 1), again=True)
