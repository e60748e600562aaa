"""Seal and open as a drawing: bars with the spread of the runs, one panel a row name, as SVG. Pure.

Written by hand, as a plot of twenty bars is no reason for a library.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .figures import Row, Sample

_VERBS = ("seal ", "open ")
_WIDTH, _LEFT, _RIGHT = 920, 250, 150
_BAR, _STEP, _TITLE, _GAP = 18, 26, 34, 22
_OURS, _PEER, _TEXT, _FAINT = "#0b6e4f", "#8a94a0", "#1c2126", "#5b6570"
_FONT = "Helvetica, Arial, sans-serif"
_NO_RECIPIENTS = "(no recipients)"


@dataclass(frozen=True, slots=True)
class Panel:
    """One kind of work: who did how much of it, best first; longer is better."""

    title: str
    unit: str
    bars: tuple[tuple[str, Sample], ...]


def panels(rows: Sequence[Row]) -> list[Panel]:
    """Return a panel for each name of a row about sealing or opening whole plaintexts."""
    found: dict[tuple[str, str], dict[str, Sample]] = {}
    for row in rows:
        # Heads are measured in time, by themselves: there longer would be worse.
        if not row.name.startswith(_VERBS) or not row.unit.endswith("/s"):
            continue
        bars = found.setdefault((row.name, row.unit), {"storage gateway": row.ours})
        if row.peer is not None:
            bars[row.peer_name] = row.peer
    return [
        Panel(name, unit, tuple(sorted(bars.items(), key=lambda bar: -bar[1].median)))
        for (name, unit), bars in found.items()
    ]


def draw(rows: Sequence[Row], caption: str) -> str:
    """Return an SVG document; the caption says when and where it was measured."""
    parts: list[str] = []
    top = 64
    for panel in panels(rows):
        parts += _panel(panel, top)
        top += _TITLE + _STEP * len(panel.bars) + _GAP
    height = top + 8
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(24, 30, "Seal and open, one core: longer is better", size=18, weight="bold"),
        _text(24, 50, caption, size=11, fill=_FAINT),
    ]
    return "\n".join([*head, *parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: int) -> list[str]:
    most = max(max(sample.values) for _, sample in panel.bars)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    parts = [_text(24, top + 18, f"{panel.title}, {panel.unit}", size=14, weight="bold")]
    for number, (name, sample) in enumerate(panel.bars):
        parts += _bar(name, sample, top + _TITLE + number * _STEP, scale)
    return parts


def _bar(name: str, sample: Sample, top: int, scale: float) -> list[str]:
    ours = name == "storage gateway"
    hollow = _NO_RECIPIENTS in name
    middle = top + _BAR / 2
    length = max(1.0, sample.median * scale)
    low, high = (_LEFT + value * scale for value in (min(sample.values), max(sample.values)))
    paint = f'fill="#ffffff" stroke="{_PEER}"' if hollow else f'fill="{_OURS if ours else _PEER}"'
    weight = "bold" if ours else "normal"
    label = f"{sample.median:,.0f}"
    whisker = f"M{low:.1f} {middle}H{high:.1f}M{low:.1f} {middle - 4}v8M{high:.1f} {middle - 4}v8"
    return [
        _text(_LEFT - 8, middle + 4, name, size=12, weight=weight, anchor="end"),
        f'<rect x="{_LEFT}" y="{top}" width="{length:.1f}" height="{_BAR}" {paint}/>',
        f'<path d="{whisker}" stroke="{_TEXT}" fill="none"/>',
        _text(max(high, _LEFT + length) + 8, middle + 4, label, size=12, weight=weight),
    ]


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    weight: str = "normal",
    anchor: str = "start",
    fill: str = _TEXT,
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'
    )
