"""``seal`` and ``rewrap``: age files made and headers made anew, without any gateway."""

import argparse

from crypto import Meta, Sealer, new_bare_head, rewrap

from .exits import EXIT_OK, UsageFault, about
from .keys import all_identities, all_recipients
from .streams import (
    PIECE_SIZE,
    Source,
    Target,
    one_stdin,
    read_head,
    refuse_terminal,
    run_offline,
    source_of,
    target_of,
)


def seal(options: argparse.Namespace) -> int:
    """Seal a stream for recipients, as a file of no object."""
    return run_offline("seal", _seal, options)


def rewrap_file(options: argparse.Namespace) -> int:
    """Make another head for a sealed file; its payload passes through untouched."""
    return run_offline("rewrap", _rewrap, options)


def _seal(options: argparse.Namespace) -> int:
    one_stdin([options.file, *options.recipients_file])
    refuse_terminal(options.output, "a sealed file")
    recipients = all_recipients(options.recipient, options.recipients_file)
    with about("content type or file name"):
        meta = _meta_of(options)
    with about("recipients"):
        sealed = new_bare_head(recipients, meta=meta)
    with (
        source_of(options.file, "seal", quiet=options.quiet) as source,
        target_of(options.output, force=options.force) as target,
    ):
        target.write(sealed.head)
        _push(source, sealed.sealer, target)
    return EXIT_OK


def _meta_of(options: argparse.Namespace) -> Meta | None:
    if options.content_type is None and options.filename is None:
        return None
    return Meta(options.content_type or "application/octet-stream", options.filename)


def _push(source: Source, sealer: Sealer, target: Target) -> None:
    while piece := source.read(PIECE_SIZE):
        target.write(sealer.update(piece))
    target.write(sealer.finish())


def _rewrap(options: argparse.Namespace) -> int:
    if not (options.current and options.wanted and options.file):
        raise UsageFault("give --current, --wanted and FILE; or --pending and --session")
    if options.session or options.dry_run or options.json or options.recipients_file:
        raise UsageFault("--session, --dry-run, --json and -R go with --pending")
    one_stdin([options.file, *options.identity])
    refuse_terminal(options.output, "a sealed file")
    identities = all_identities(options.identity)
    current = all_recipients(options.current)
    wanted = all_recipients(options.wanted)
    with source_of(options.file, "rewrap", quiet=options.quiet) as source:
        with about(source.name):
            head, rest = read_head(source)
            new_head = rewrap(head, identities, current=current, wanted=wanted)
        with target_of(options.output, force=options.force) as target:
            target.write(new_head)
            if not options.head_only:
                _copy(rest, source, target)
    return EXIT_OK


def _copy(first: bytes, source: Source, target: Target) -> None:
    target.write(first)
    while piece := source.read(PIECE_SIZE):
        target.write(piece)
