"""Bugs in what lets objects stay and go; see `planted`."""

from collections.abc import Callable

import pytest

from storage_gateway.backends import BlobInfo
from storage_gateway.backends.member import Member
from storage_gateway.catalog.work import Grave
from storage_gateway.errors import BackendUnavailable
from storage_gateway.recovery import Recovery


def who_rests_is_clean(patch: pytest.MonkeyPatch) -> None:
    """A store that is not asked for a while, as it failed lately, counts as clean."""

    def resting(self: Member) -> bool:
        return not (self.lists.is_closed and self.deletes.is_closed)

    listed, deleted = Member.list, Member.delete

    async def list_(self: Member, prefix: str) -> list[BlobInfo]:
        try:
            return await listed(self, prefix)
        except BackendUnavailable:
            if resting(self):
                return []
            raise

    async def delete(self: Member, key: str) -> None:
        try:
            await deleted(self, key)
        except BackendUnavailable:
            if not resting(self):
                raise

    patch.setattr(Member, "list", list_)
    patch.setattr(Member, "delete", delete)


def old_copies_are_not_looked_for(patch: pytest.MonkeyPatch) -> None:
    """Who brings the tombstone removes the copies before it, and nobody looks for them later."""

    async def older(_self: Recovery, _grave: Grave) -> tuple[list[str], bool]:
        return [], True

    patch.setattr(Recovery, "_older_copies", older)


RETENTION_BUGS: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "erase-with-backend-down": (
        who_rests_is_clean,
        "nothing counts as erased before every store was seen clean",
    ),
    "late-copy-after-erase": (
        old_copies_are_not_looked_for,
        "what comes to a store late is found, and deleted",
    ),
}
