#!/usr/bin/env python3
"""Draws some rows of a run as bars: `plot.py RESULTS.json > plot.svg`, from what `run.py --json` wrote."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from rounds import number_text

ROWS = ("bulk_down_1", "keepalive", "connections", "rtt_p50")
LEFT_OUT = ("direct", "two bare relays", "ssh -N -R")  # limits, and ssh at less than its best
WIDTH, LABEL, BAR, GAP, TITLE, COLUMN_GAP = 860, 110, 15, 4, 26, 24
OURS, OTHERS, INK = "#2f6fde", "#9aa4b2", "#6b7280"  # legible on white and on black


def panel(row: dict[str, Any], left: int, top: int, width: int) -> tuple[list[str], int]:
    """The elements of one row's bars, best first, and their height in pixels."""
    cells = [cell for cell in row["peers"] if cell["median"] and cell["peer"] not in LEFT_OUT]
    cells.sort(key=lambda cell: cell["median"], reverse=row["more_is_better"])
    longest = max((cell["median"] for cell in cells), default=1)
    better = "more is better" if row["more_is_better"] else "less is better"
    lines = [text(left, top + 13, f"{row['title']}, {row['unit']} ({better})", "bold")]
    room = width - LABEL - 56
    y = top + TITLE
    for cell in cells:
        ours = cell["peer"].startswith("aero")
        length = max(round(room * cell["median"] / longest), 1)
        colour = OURS if ours else OTHERS
        weight = "bold" if ours else "normal"
        lines.append(text(left, y + BAR - 3, cell["peer"].partition(",")[0], weight))
        lines.append(
            f'<rect x="{left + LABEL}" y="{y}" width="{length}" height="{BAR}" rx="2" fill="{colour}"/>'
        )
        lines.append(text(left + LABEL + length + 6, y + BAR - 3, number_text(cell["median"]), weight))
        y += BAR + GAP
    return lines, y - top


def text(x: int, y: int, words: str, weight: str) -> str:
    return f'<text x="{x}" y="{y}" font-weight="{weight}">{escape(words)}</text>'


def drawing(rows: Sequence[dict[str, Any]]) -> str:
    """The whole picture: two panels side by side, as many times as it takes."""
    width = (WIDTH - COLUMN_GAP) // 2
    lines: list[str] = []
    top = 0
    for index in range(0, len(rows), 2):
        heights = []
        for column, row in enumerate(rows[index : index + 2]):
            drawn, height = panel(row, column * (width + COLUMN_GAP), top, width)
            lines += drawn
            heights.append(height)
        top += max(heights) + COLUMN_GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top}" width="{WIDTH}" height="{top}"'
    )
    return "\n".join([f'{head} font-family="sans-serif" font-size="12" fill="{INK}">', *lines, "</svg>", ""])


def main(arguments: Sequence[str]) -> int:
    """Prints the picture of the rows that were measured; 2: called wrongly, 1: nothing to draw."""
    if len(arguments) != 1:
        print(__doc__, file=sys.stderr)
        return 2
    measured = {row["key"]: row for row in json.loads(Path(arguments[0]).read_text())["rows"]}
    rows = [measured[key] for key in ROWS if key in measured]
    if not rows:
        print(f"plot: none of {', '.join(ROWS)} in {arguments[0]}", file=sys.stderr)
        return 1
    print(drawing(rows), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
