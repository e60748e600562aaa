"""Showing figures: as text for a terminal, as Markdown for docs/performance.md, as JSON."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .figures import Row, Sample

BEGIN = "<!-- figures: written by `python -m bench --write` -->"
END = "<!-- end of figures -->"
HEADINGS = ("what", "ours", "peer", "ratio", "floor", "holds?", "server CPU")
FINE_BELOW = 0.1
WHOLE_FROM = 10


class RegionMissing(Exception):
    """The document has no marked region to write the figures into."""


def text_table(rows: Iterable[Row], *, judged: bool) -> str:
    """Return an aligned table."""
    lines = [HEADINGS, *(cells(row, judged=judged) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def markdown(
    rows: Iterable[Row],
    *,
    judged: bool,
    machine: str,
    command: str,
    date: str,
    notes: Sequence[str] = (),
) -> str:
    """Return the figures section: when, where and how measured, and the table."""
    lines = [
        f"Measured {date} with `{command}`.",
        f"Machine: {machine}.",
        *([f"Beside ours: {'; '.join(notes)}."] if notes else []),
        "",
        f"| {' | '.join(HEADINGS)} |",
        f"|{' --- |' * len(HEADINGS)}",
        *(f"| {' | '.join(cells(row, judged=judged))} |" for row in rows),
    ]
    return "\n".join(lines)


def cells(row: Row, *, judged: bool) -> tuple[str, ...]:
    """Return a row as the texts under `HEADINGS`."""
    ratio = row.ratio
    return (
        row.name,
        _shown(row.ours, row.unit),
        "" if row.peer is None else f"{row.peer_name}: {_shown(row.peer, row.unit)}",
        "" if ratio is None else f"{ratio:.{2 if ratio >= FINE_BELOW else 3}f}",
        row.floor,
        row.verdict(judged=judged).value,
        "; ".join(filter(None, (row.cpu and _cpu_shown(row.cpu, row.cpu_unit), row.beside))),
    )


def _cpu_shown(cpu: tuple[float, float], unit: str) -> str:
    ours, theirs = (f"{each:,.{0 if each >= WHOLE_FROM else 2}f}" for each in cpu)
    return f"{ours} / {theirs} {unit}"


def _shown(sample: Sample, unit: str) -> str:
    """Return the median, and half the distance of the extremes when there is more than one run."""
    digits = 0 if sample.median >= 100 else 1
    spread = f" ±{sample.spread * 50:.0f} %" if len(sample.values) > 1 else ""
    return f"{sample.median:,.{digits}f} {unit}{spread}"


def as_json(
    rows: Sequence[Row],
    *,
    judged: bool,
    machine: str,
    command: str,
    date: str,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Return everything that was measured, every single value too."""
    return {
        "date": date,
        "command": command,
        "machine": machine,
        "judged": judged,
        "notes": list(notes),
        "rows": [
            {
                "what": row.name,
                "unit": row.unit,
                "ours": row.ours.median,
                "ours_values": row.ours.values,
                "peer_name": row.peer_name or None,
                "peer": row.peer.median if row.peer else None,
                "peer_values": row.peer.values if row.peer else None,
                "ratio": row.ratio,
                "floor": row.floor or None,
                "verdict": row.verdict(judged=judged).name.lower(),
                "server_cpu": row.cpu,
                "server_cpu_unit": row.cpu_unit if row.cpu else None,
                "beside": row.beside or None,
            }
            for row in rows
        ],
    }


def replace_region(document: str, figures: str) -> str:
    """Return the document with new figures between the marks. Raises RegionMissing."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise RegionMissing(f"put the lines {BEGIN} and {END} where the figures belong")
    return f"{before}{BEGIN}\n{figures}\n{END}{after}"


def rewrite(path: Path, figures: str) -> None:
    """Write new figures into the document at `path`. Raises RegionMissing."""
    document = path.read_text(encoding="utf-8")
    path.write_text(replace_region(document, figures), encoding="utf-8")
