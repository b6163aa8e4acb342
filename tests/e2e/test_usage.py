"""What moved is counted, and the counts outlive the server, however that ends."""

from __future__ import annotations

import signal

from tests.e2e import services
from tests.e2e.api import ApiServer
from tests.e2e.harness import Lab, connect, echoes, exchange, poll

MIB = 1 << 20


def test_a_killed_server_has_kept_what_moved_and_counts_on(lab: Lab) -> None:
    api = ApiServer(lab)
    worker = lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    port = worker.port("echo")

    def moved() -> tuple[int, int, int]:
        lines = api.call("/traffic/history?step=month&by=target").json["lines"]
        assert [line["name"] for line in lines] in ([], ["nas/echo"])
        found = [(line["bytes_in"], line["bytes_out"], line["streams"]) for line in lines]
        return found[0] if found else (0, 0, 0)

    assert echoes(port, b"x" * MIB)
    with connect(port) as still_open:
        assert exchange(still_open, b"y" * MIB)
        poll("both streams to be kept, the open one too", lambda: moved() == (2 * MIB, 2 * MIB, 2))
        api.program.stop(signal.SIGKILL)
    api.start()
    assert moved() == (2 * MIB, 2 * MIB, 2)
    port = worker.port("echo")
    poll("the worker to come back", lambda: echoes(port, b"z"))
    assert echoes(port, b"z" * MIB)
    poll("the new ones on top", lambda: moved()[0] >= 3 * MIB + 1)
    csv = api.call("/traffic/history?by=tag&step=month", headers={"Accept": "text/csv"})
    assert csv.headers["content-type"] == "text/csv; charset=utf-8"
    assert csv.body.decode().splitlines()[1].split(",")[1:3] == ['"nas"', str(moved()[0])]
    done = lab.aero("traffic", "--api", f"localhost:{api.port}", "--step", "hour")
    assert "nas/echo" in done.stdout and "█" in done.stdout
    assert api.call("/traffic/history?step=week").status == 400
    worker.stop()
    api.program.stop()
