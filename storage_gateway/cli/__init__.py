"""The command line: ``storage-gateway COMMAND``."""

from .commands import run

__all__ = ["run"]
