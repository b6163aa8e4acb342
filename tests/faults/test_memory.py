"""One budget a process: crowds of frozen sessions, and of readers that do not read."""

from __future__ import annotations

import struct

from gevent import socket

from aero.config.roles import ServerConfig
from aero.host.facts import facts
from tests.faults.hostile import Hostile
from tests.faults.inside import ECHO, LOOPBACK, SEND, Inside, ask, exchange, until

MIB = 1 << 20
BUDGET = 48 * MIB


class Small(Inside):
    """A server that may hold the least."""

    @staticmethod
    def server_config(resume_s: int, port: int = 0, ports: tuple[int, int] = (0, 0)) -> ServerConfig:
        return Inside.server_config(resume_s, port, ports).replace(memory=BUDGET)


def test_sessions_that_froze_keep_what_they_have_to_say_and_no_more() -> None:
    with Small() as lab:
        blocks = lab.server.ground.memory.blocks
        before = facts()["rss_kib"]
        for number in range(150):
            join = {"v": "0", "identity": f"i{number}", "tag": f"t{number}", "host": "h", "ping": 60}
            with Hostile(lab.server.port, join) as worker:
                worker.join()
                worker.say({"do": "register", "targets": [{"id": 1, "name": "n", "local": "h:1"}]})
                until("its mapping", lambda worker=worker: worker.control or not worker.read())
        uplinks = lab.server.sessions.uplinks
        until("all to freeze", lambda: sum(not each.alive for each in uplinks.values()) == 150)
        assert 0 < blocks.taken_bytes < 150 * 512  # what they were told and have not acknowledged
        assert facts()["rss_kib"] - before < 20 * 1024
        for uplink in [each for each in uplinks.values() if not each.alive]:
            uplink.end(0, "the test is over")


def test_readers_that_do_not_read_are_bounded_together_and_readers_that_do_are_not_touched() -> None:
    """Each may have 256 KiB by its window: 75 MiB of 300."""
    with Small() as lab:
        before = facts()["rss_kib"]
        with ask(lab.port, ECHO) as right:
            exchange(right, b"before")
            idle = []
            for number in range(300):
                visitor = socket.socket()
                visitor.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                visitor.connect((LOOPBACK, lab.port))
                visitor.sendall(struct.pack("!4sQQ", SEND, number, 4 * MIB))
                idle.append(visitor)
                exchange(right, b"meanwhile")
                (uplink,) = lab.server.sessions.uplinks.values()
                assert uplink.session.held_bytes <= BUDGET // 2 + BUDGET // 16 + MIB
            until("some to give way", lambda: lab.streams[0] < 300)
            exchange(right, b"after")
            assert facts()["rss_kib"] - before < 2 * BUDGET // 1024
            for visitor in idle:
                visitor.close()
