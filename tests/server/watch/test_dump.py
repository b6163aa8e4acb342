"""The state in the log: a line for the process, and one for each of the first workers."""

from __future__ import annotations

import pytest

from aero.server.watch import dump as module
from aero.server.watch.dump import dump


def test_a_line_for_the_process_and_one_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, dict[str, object]]] = []
    monkeypatch.setattr(module.log, "info", lambda message, **fields: lines.append((message, fields)))
    monkeypatch.setattr(module, "_MAX_LINES", 2)
    dump({"workers": 3}, ({"cid": f"c{number}"} for number in range(3)))
    assert [what for what, _ in lines] == ["server", "worker", "worker"]
    assert lines[0][1]["workers"] == 3 and "rss_kib" in lines[0][1]
    assert [fields["cid"] for _, fields in lines[1:]] == ["c0", "c1"]
