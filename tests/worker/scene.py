"""Parts of a worker without a network, for the tests of this room."""

from __future__ import annotations

from typing import Any, cast

from aero.core.control import Answer
from aero.core.flows import Flow
from aero.core.joining import JoinedNew
from aero.core.memory import Memory
from aero.core.session import SessionLimits
from aero.core.stream import Stream
from aero.net.loop import event_loop
from aero.worker.ground import Ground
from aero.worker.session import KeptSession


class Office:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def worker_begun(self) -> None:
        self.heard.append("worker begun")

    def session_lost(self) -> None:
        self.heard.append("session lost")

    def link_up(self) -> None:
        self.heard.append("link up")

    def visitor_came(self, stream: Stream, target_id: int, visitor: str) -> None:
        self.heard.append(f"visitor for {target_id}")

    def flow_came(self, flow: Flow, target_id: int, visitor: str) -> None:
        self.heard.append(f"flow for {target_id}")

    def answered(self, answers: tuple[Answer, ...]) -> None:
        self.heard.append(f"{len(answers)} answers")


class Plain:
    """What Ground is to sessions and lanes, without a code to stretch."""

    def __init__(self, pool: int = 1) -> None:
        self.memory = Memory(64 << 20)
        self.session_limits = SessionLimits()
        self.loop = event_loop()
        self.config = cast(Any, type("Config", (), {"pool": pool, "user": ""}))


def ground(pool: int = 1) -> Ground:
    return cast(Ground, Plain(pool))


def session(cid: str = "c1", resume_s: float = 60.0, number: int = 1) -> KeptSession:
    """A session that the server has just given."""
    return KeptSession(ground(), Office(), JoinedNew("1", cid, f"s{number}", "secret", resume_s))
