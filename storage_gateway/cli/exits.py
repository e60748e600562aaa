"""Exit statuses of the offline commands: one for each type of failure, in one table.

The numbers are an interface: scripts test them. A new failure takes a new number, never an old one.
It decides and describes; it prints nothing.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import crypto
from urn import CIDError, LeafError, NameFormatError, URNError

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_TERMINATED = 143
EXIT_HUNG_UP = 129
EXIT_INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Exit:
    """A status, what it means, and what to do about it."""

    status: int
    meaning: str
    remedy: str


EXITS: dict[type[Exception], Exit] = {
    crypto.HeaderError: Exit(
        10, "the header breaks the age format", "give an age file, whole and unarmored"
    ),
    crypto.HeaderSizeError: Exit(
        11, "the header is longer than 64 KiB", "seal for fewer recipients"
    ),
    crypto.StanzaLimitError: Exit(
        12, "the header has more than 32 stanzas", "seal for fewer recipients"
    ),
    crypto.NoIdentityMatch: Exit(
        13, "no identity opens the file", "give the identity that it was sealed for"
    ),
    crypto.HeaderMACError: Exit(
        14, "the header was changed after it was made", "fetch the file or its head again"
    ),
    crypto.PayloadError: Exit(
        15, "the payload is cut short, changed or another's", "fetch the payload again"
    ),
    crypto.ContextMismatch: Exit(
        16, "the file belongs to another object, or to none", "give the head of this very object"
    ),
    crypto.RecipientError: Exit(
        17, "a recipient is not acceptable", "give age1… texts: the public half, never the secret"
    ),
    crypto.IdentityError: Exit(
        18, "an identity is not acceptable", "give a file as keygen or age-keygen writes it"
    ),
    crypto.ClassMismatch: Exit(
        19, "classic and hybrid would meet in one header", "give recipients of one class"
    ),
    crypto.ContextError: Exit(20, "a context is malformed", "report it: no command takes one"),
    crypto.MetaError: Exit(
        21, "content type or file name is malformed or too long", "give others, or none"
    ),
    crypto.SealerReuse: Exit(22, "a file key would seal twice", "report it: this is a bug"),
    crypto.SelfCheckError: Exit(
        23, "what was just made does not open", "check the machine's memory, then report it"
    ),
    crypto.LeafMismatch: Exit(
        24, "a stored leaf does not have its tag", "report it: no command checks one"
    ),
    crypto.CopyError: Exit(
        25, "a copy of a manifest is not what it should be", "report it: no command ends so"
    ),
    crypto.PossessionError: Exit(
        26, "an answer does not show that an identity is at hand", "report it: no command ends so"
    ),
    URNError: Exit(30, "the text is not a URN", "see RFC 8141, and the position named"),
    NameFormatError: Exit(31, "a URN, but no name of ours or the network's", "see docs/names.md"),
    CIDError: Exit(32, "the text is not a CID of our profile", "see docs/names.md"),
    LeafError: Exit(33, "leaves in an order that no file has", "report it: this is a bug"),
    OSError: Exit(40, "a file cannot be read or written", "see to the file named"),
    FileExistsError: Exit(
        41, "the output exists already", "choose another name; or --force, where the command has it"
    ),
}
_UNNAMED = Exit(EXIT_FAILED, "another failure", "report it")
_OTHERS = (
    Exit(EXIT_OK, "done", ""),
    Exit(EXIT_FAILED, "another failure; the reader of our output went away", ""),
    Exit(EXIT_USAGE, "wrong usage; nothing was done", ""),
    Exit(EXIT_HUNG_UP, "the terminal went away (SIGHUP); no output file is left", ""),
    Exit(EXIT_INTERRUPTED, "interrupted (Ctrl-C); no output file is left", ""),
    Exit(EXIT_TERMINATED, "terminated (SIGTERM); no output file is left", ""),
)


class Failure(Exception):
    """An error, and the file or argument that it is about."""

    def __init__(self, where: str, error: Exception) -> None:
        super().__init__(where, error)
        self.where = where
        self.error = error

    def __str__(self) -> str:
        # str() of an OSError repeats a name, of a temporary file even.
        text = self.error.strerror if isinstance(self.error, OSError) else None
        return f"{self.where}: {text or self.error}"


class UsageFault(Exception):
    """Options that do not go together."""


def exit_of(error: BaseException) -> Exit:
    """Return the row of the nearest type that has one."""
    rows = (EXITS[kind] for kind in type(error).__mro__ if kind in EXITS)
    return next(rows, _UNNAMED)


@contextmanager
def about(where: object) -> Iterator[None]:
    """Say of an error of the table which file or argument it is about.

    Raises Failure. A broken pipe is no fault of a file, and passes.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except tuple(EXITS) as error:
        raise Failure(str(where), error) from error


def all_exits() -> list[Exit]:
    """Return every status that an offline command can end with, by number."""
    return sorted([*_OTHERS, *EXITS.values()], key=lambda row: row.status)


def help_text() -> str:
    """Return the table as the end of a command's help."""
    return "\n".join(
        ["exit status:", *(f"  {row.status:>3}  {row.meaning}" for row in all_exits())]
    )
