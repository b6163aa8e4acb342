"""`aero traffic`: its table and its bars."""

from __future__ import annotations

from typing import Any

import pytest

from aero.cli import traffic
from aero.cli.main import gather
from aero.config.option import Options
from aero.config.roles import TrafficConfig


def given(*argv: str) -> Options:
    return gather("traffic", list(argv), {})


def line(start: str, name: str, into: int, out: int, **more: Any) -> dict[str, Any]:
    return {"start": start, "when": start[:10], "name": name, "bytes_in": into, "bytes_out": out, "streams": 1,
            "requests": 2, "datagrams_in": 0, "datagrams_out": 0, "refused": {}} | more  # fmt: skip


def test_the_table_has_bars_and_says_each_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(config: TrafficConfig, method: str, path: str) -> dict[str, Any]:
        asked.append(f"{method} {path}")
        return {
            "zone": "UTC",
            "lines": [
                line("2026-03-01T00:00:00Z", "nas/ssh", 0, 1 << 20),
                line("2026-03-01T00:00:00Z", "nas/web", 1 << 20, 3 << 20, refused={"quota": 2, "rate": 1}),
                line("2026-03-02T00:00:00Z", "", 1, 0),
            ],
        }

    monkeypatch.setattr(traffic, "ask", ask)
    text = traffic.shown(TrafficConfig.parse(given("--from", "2026-03-01", "--to", "2026-03")))
    assert asked == ["GET /traffic/history?by=target&step=day&from=2026-03-01&to=2026-03"]
    assert text.splitlines() == [
        "DAY         TARGET        IN      OUT  STREAMS  REQUESTS  REFUSED",
        "2026-03-01  nas/ssh      0 B  1.0 MiB        1         2        0  ██████",
        "            nas/web  1.0 MiB  3.0 MiB        1         2        3  ████████████████████████",
        "2026-03-02  -            1 B      0 B        1         2        0  ▏",
    ]


def test_nothing_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic, "ask", lambda *_: {"zone": "local", "lines": []})
    assert (
        traffic.shown(TrafficConfig.parse(given("--step", "month", "--by", "user")))
        == "No traffic in that time.\n"
    )


@pytest.mark.parametrize(
    ("value", "bar"), [(0, ""), (1, "▎"), (100, "█" * 24), (50, "█" * 12), (52, "█" * 12 + "▌")]
)
def test_bars(value: int, bar: str) -> None:
    assert traffic.bar(value, 100) == bar
