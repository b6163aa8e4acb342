"""Who gets a port that somebody else had: thieves, clones, former selves, restarts. Real sockets, one process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest

from aero.config.roles import ServerConfig
from aero.core import frames
from aero.core.codes import Close
from aero.limits import Limits
from aero.server.app import Server
from tests.e2e.harness import free_ports
from tests.faults.hostile import Hostile
from tests.faults.inside import CODE, LOOPBACK, until


class Peer(Hostile):
    """A worker that reads all the time and answers pings, after a while if need be."""

    def __init__(
        self, port: int, identity: str = "i", tag: str = "t", host: str = "h", delay_s: float = 0.0
    ) -> None:
        self.delay_s = delay_s
        self.silent = False
        super().__init__(port, {"v": "0", "identity": identity, "tag": tag, "host": host, "ping": 60})
        self.answers_pings = True
        self.reader = gevent.spawn(self._read_all)
        until("JOINED", lambda: self.joined or self.ended)

    def _read_all(self) -> None:
        while not self.ended and self.read():
            pass

    def link(self, *parts: bytes) -> bool:
        if self.silent:
            return True
        if self.delay_s and parts[0][0] == frames.pack(frames.PONG, 0, bytes(8))[0]:
            gevent.spawn_later(self.delay_s, super().link, *parts)
            return True
        return super().link(*parts)

    def register(self, name: str = "web", **more: int) -> dict[str, Any]:
        """The server's answer for one target."""
        self.control.clear()
        self.say({"do": "register", "targets": [{"id": 1, "name": name, "local": "h:1", **more}]})
        until("an answer", lambda: self.control)
        found: dict[str, Any] = self.control[0]["targets"][0]
        return found

    def leave(self, lab: Lab) -> None:
        cid = self.joined["cid"]
        self.link(frames.pack(frames.CLOSE, 0, frames.pack_reason(Close.DONE, "bye")))
        self.reader.kill()
        self.sock.close()
        until("it to be gone", lambda: cid not in lab.server.registry.workers)


class Lab:
    """A server that can be started again, with its memory."""

    def __init__(self, state: Path) -> None:
        ports = free_ports(60)
        self._config = ServerConfig(
            ips=(LOOPBACK,),
            port=0,
            auth=CODE,
            api=None,
            mux=(),
            ports=(ports[0], ports[-1]),
            state=str(state),
        )
        self.server = Server(self._config)
        self.peers: list[Peer] = []

    def peer(self, *names: str, **more: Any) -> Peer:
        self.peers.append(Peer(self.server.port, *names, **more))
        return self.peers[-1]

    def restart(self) -> None:
        self.close()
        self.server = Server(self._config)

    def close(self) -> None:
        for peer in self.peers:
            peer.reader.kill()
            peer.sock.close()
        self.peers.clear()
        self.server.close()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path)
    yield lab
    lab.close()


def test_the_port_of_a_worker_that_is_away_cannot_be_taken(lab: Lab) -> None:
    owner = lab.peer("owner", "nas", "attic")
    port = owner.register()["port"]
    owner.leave(lab)
    for names in (("thief", "other", "attic"), ("thief", "nas", "cellar"), ("owner", "other", "attic")):
        answer = lab.peer(*names).register(remote=port)
        assert answer["error"] == "taken" and "away" in answer["text"]
        assert lab.peer(*names).register("web", had=port)["port"] != port
    assert lab.peer("owner", "nas", "attic").register()["port"] == port


def test_a_restart_of_the_server_is_no_race_for_ports(lab: Lab) -> None:
    port = lab.peer("owner", "nas", "attic").register()["port"]
    lab.restart()
    for names in (("thief", "nas", "attic"), ("thief", "nas", "cellar"), ("thief", "other", "attic")):
        assert lab.peer(*names).register()["port"] != port
        assert lab.peer(*names).register("other", remote=port)["error"] == "taken"
    assert lab.peer("owner", "nas", "attic").register()["port"] == port


def test_clones_keep_their_own_ports_when_the_server_starts_again(lab: Lab) -> None:
    clones = [lab.peer() for _ in range(4)]
    had = [clone.register()["port"] for clone in clones]
    assert len(set(had)) == 4
    lab.restart()
    for port in reversed(had):
        assert lab.peer().register(had=port)["port"] == port


def test_clones_keep_their_own_ports_where_the_system_chooses(lab: Lab) -> None:
    lab._config = lab._config.replace(ports=(0, 0), state="")
    lab.restart()
    had = [lab.peer().register()["port"] for _ in range(3)]
    lab.restart()
    for port in reversed(had):
        assert lab.peer().register(had=port)["port"] == port


def test_forty_clones_at_once_replace_nobody(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link takes 16 pings at once, and each takes 300 ms: who cannot be pinged is not dead."""
    monkeypatch.setattr(
        Limits, "PROOF_OF_LIFE_S", 10.0
    )  # forty handshakes keep the one loop of this test busy
    living = [lab.peer(delay_s=0.3) for _ in range(4)]
    ports = [peer.register()["port"] for peer in living]
    newcomers = [gevent.spawn(lab.peer, delay_s=0.3) for _ in range(36)]
    gevent.joinall(newcomers, raise_error=True)
    assert len(lab.server.registry.workers) == 40
    assert not any(peer.closed or peer.ended for peer in living)
    assert len({*ports, *(each.value.register()["port"] for each in newcomers[:6])}) == 10


def test_a_former_self_that_is_silent_gives_its_port_to_the_same_host(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "PROOF_OF_LIFE_S", 1.0)
    former = lab.peer("before")
    port = former.register()["port"]
    former.silent = True
    assert lab.peer("after").register()["port"] == port
    assert not former.closed, "it may come back: only its port is gone"
    until("it to be told", lambda: [m for m in former.control if m["targets"][0].get("error") == "taken"])


def test_the_same_worker_with_other_targets_has_its_ports_at_once(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Limits, "PROOF_OF_LIFE_S", 1.0)
    former = lab.peer()
    ports = lab.server.ground.present.config.ports
    assert former.register("web", remote=ports[0])["port"] == ports[0]
    former.silent = True  # its host lost power
    again = lab.peer()
    assert again.register("web", remote=ports[0])["port"] == ports[0]
    assert former.closed is not None and former.closed[0] == Close.REPLACED
