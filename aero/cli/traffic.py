"""`aero traffic`: what went through a server, as a table with bars."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

from aero.cli.console import ask, size, table
from aero.config.roles import TrafficConfig

BAR_CHARS = 24
#: A block, and its parts in eighths.
BLOCKS = " ▏▎▍▌▋▊▉█"


def shown(config: TrafficConfig) -> str:
    """The table, or the API's answer as it is."""
    query = {"by": config.by, "step": config.step}
    query |= {name: text for name, text in (("from", config.since), ("to", config.until)) if text}
    answer = ask(config, "GET", f"/traffic/history?{urlencode(query)}")
    if config.as_json:
        return json.dumps(answer, indent=2) + "\n"
    lines = answer["lines"]
    if not lines:
        return "No traffic in that time.\n"
    most = max(_moved(line) for line in lines)
    heads = (config.step.upper(), config.by.upper(), "IN", "OUT", "STREAMS", "REQUESTS", "REFUSED", "")
    rows = []
    before = ""
    for line in lines:
        when = line["when"].replace("T", " ")  # in the server's calendar
        rows.append([when if when != before else "", *_row(line), bar(_moved(line), most)])
        before = when
    return table(heads, rows)


def _moved(line: dict[str, Any]) -> int:
    moved: int = line["bytes_in"] + line["bytes_out"]
    return moved


def _row(line: dict[str, Any]) -> list[str]:
    return [
        line["name"] or "-",
        size(line["bytes_in"]),
        size(line["bytes_out"]),
        str(line["streams"]),
        str(line["requests"]),
        str(sum(line["refused"].values())),
    ]


def bar(value: int, most: int) -> str:
    """A bar as long as ``value`` is of ``most``; whatever is not nothing can be seen."""
    eighths = max(round(8 * BAR_CHARS * value / most), 1) if value else 0
    return BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8].strip()
