"""What migrations share. Frozen like them: a later change of a type gets a name of its own here."""

from sqlalchemy import String
from sqlalchemy.types import TypeEngine


def text_type(length: int | None = None) -> TypeEngine[str]:
    """Return text that is sorted by its bytes, whatever the database's language."""
    return String(length).with_variant(String(length, collation="C"), "postgresql")
