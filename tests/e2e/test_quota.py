"""A quota that is used up in the middle of a transfer, between real processes."""

from __future__ import annotations

import socket

from tests.e2e import services
from tests.e2e.api import ApiServer
from tests.e2e.harness import Lab, connect, echoes, is_reset, poll

MB = 1_000_000


def test_a_transfer_ends_at_the_grace_and_new_streams_are_refused(lab: Lab) -> None:
    users = lab.path("users.toml")
    users.write_text('[default]\nlimit = "2MB"\nquota = "4MB/day"\n')
    api = ApiServer(lab, "--users", str(users))
    worker = lab.worker(api.link_port, tag="nas", targets={"echo": services.echo(lab)})
    port = worker.port("echo")
    assert echoes(port)
    with connect(port) as visitor:
        visitor.settimeout(1.0)
        sent = 0
        try:
            while sent < 40 * MB:
                sent += visitor.send(b"x" * 10_000)
                if sent > 100_000:
                    visitor.recv(65_536)
        except (ConnectionError, socket.timeout):
            pass
    assert is_reset(port), "no new streams"
    lines = poll("the history", lambda: api.call("/traffic/history?by=user").json["lines"])
    poll(
        "the refusal",
        lambda: api.call("/traffic/history?by=user").json["lines"][0]["refused"].get("quota", 0) >= 1,
    )
    (line,) = api.call("/traffic/history?by=user").json["lines"]
    # Both directions count; what goes past 105 % is what moves between two looks, half a second.
    assert 4 * MB <= line["bytes_in"] + line["bytes_out"] <= 4.2 * MB + 4 * MB, lines
    api.program.says("quota used up")
    worker.stop()
