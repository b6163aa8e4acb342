"""What the server knows of our targets, kept equal to what we have: one session's lane tells it, answers come back."""

from __future__ import annotations

from typing import Callable

from aero.core.messages import Answer
from aero.core.session import Session
from aero.core.stream import Stream
from aero.limits import Limits
from aero.net.loop import Loop, Watcher, stopped
from aero.worker.targets import Services


class Registration:
    """Tells the server of targets that come and go."""

    def __init__(self, loop: Loop, services: Services) -> None:
        self.speaker: Callable[[], Session | None] = lambda: None  # where to say it; None: no link is up
        self._loop = loop
        self._services = services
        self._again: Watcher | None = None  # the timer that asks once more for what was taken

    def tell(self) -> None:
        """Says what the server does not know yet."""
        self._forget_timer()
        session = self.speaker()
        if session is not None:
            for message in self._services.messages():
                session.control(message)

    def worker_begun(self) -> None:
        """The worker is new to the server, which knows none of its targets."""
        self._services.forget_mappings()
        self.tell()

    def session_lost(self) -> None:
        """A session is gone, another lives: what the server had not answered yet may have gone with it."""
        self.tell()

    def visitor_came(self, stream: Stream, target_id: int, visitor: str) -> None:
        """A visitor wants to reach a target."""
        self._services.connect(stream, target_id, visitor)

    def answered(self, answers: tuple[Answer, ...]) -> None:
        """The server's answers to a register message."""
        if not self._services.registered(answers) and self._again is None:
            self._again = self._loop.timer(Limits.REGISTER_RETRY_S)
            self._again.start(self.tell)

    def close(self) -> None:
        """Says nothing more."""
        self._forget_timer()

    def _forget_timer(self) -> None:
        stopped(self._again)
        self._again = None
