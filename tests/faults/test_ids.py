"""A session that has given all its stream ids goes on with the first: visitors notice nothing."""

from __future__ import annotations

import gevent

from tests.faults.inside import ECHO, Inside, ask, download, exchange, pieces, until, upload

LARGEST = 2**32 - 1


def test_visitors_come_and_stay_while_the_ids_go_round() -> None:
    with Inside() as lab:
        with ask(lab.port, ECHO) as first, ask(lab.port, ECHO) as second:
            exchange(first, b"one")
            exchange(second, b"one")
            (uplink,), (lane,) = lab.server.sessions.uplinks.values(), lab.worker.crew.lanes
            assert lane.session is not None and sorted(lane.session.core.streams) == [1, 3]
            lane.session.core._their_last = LARGEST - 20
            uplink.session._next_id = LARGEST - 18
            with pieces() as running:
                for number in range(20):
                    running.append(gevent.spawn(download, lab.port, number, 100_000 + number))
                    running.append(gevent.spawn(upload, lab.port, number, 100_000 + number))
                until("the first again", lambda: uplink.session._next_id < 1000)
                lab.relay.cut()
            exchange(first, b"two")
            exchange(second, b"two")
            until("the other streams' end", lambda: lab.streams == (2, 2))
            assert uplink.session._next_id == 1 + 2 * (40 - 10 + 2)
        assert lab.announced == 1 and list(lab.server.sessions.uplinks.values()) == [uplink]
