"""Joining: a link that proves an invitation's code and asks for a credential, once. Nothing of it stays.

PROTOCOL.md, section "Joining". Blocks its greenlet.
"""

from __future__ import annotations

from gevent.event import AsyncResult

from aero import __version__
from aero.config.roles import ClientConfig
from aero.core.codes import Close
from aero.core.joining import Join, Joined, JoinInvited, Welcome
from aero.errors import AeroError, NetworkError, ProtocolError, Rejected, RemoteProtocolError, SecurityError
from aero.net.link import Link
from aero.worker.dialling import open_link
from aero.worker.ground import Ground

_ANSWER_S = 15.0  # the server writes to its disk before it answers


def join(config: ClientConfig, credential: str, verifier: str) -> Welcome:
    """What the server says to the credential, whose ``verifier`` it keeps. ``config``: the code, under its name.

    Raises Rejected where the server says no, and any other AeroError.
    """
    ground = Ground(config)
    asked = JoinInvited(__version__, config.host, credential, verifier)
    owner = _Owner()
    try:
        link = open_link(ground, owner, config.user, lambda _: asked.pack(), _nothing)
    except SecurityError as error:
        raise _wrong() from error
    except Rejected as error:
        raise (_wrong() if error.code in (Close.AUTH, Close.AUTH_NEXT) else error) from None
    link.start()
    try:
        welcome: Welcome = owner.answer.get(timeout=_ANSWER_S)
    except TimeoutError:
        raise NetworkError(f"the server did not answer within {_ANSWER_S:.0f} s") from None
    finally:
        if link.open:
            link.abandon(NetworkError("done"))
    return welcome


def _wrong() -> Rejected:
    text = "the code is wrong, or its invitation is over; three wrong codes end an invitation"
    return Rejected(Close.AUTH, text, final=True)


def _nothing() -> None:
    """Nobody waits for the server's proof alone."""


class _Owner:
    """The link's owner: keeps the first thing that the server says."""

    def __init__(self) -> None:
        self.answer: AsyncResult[Welcome] = AsyncResult()

    def _failed(self, error: AeroError) -> None:
        if not self.answer.ready():
            self.answer.set_exception(error)

    def joining(self, message: Join | Joined) -> None:
        """The answer to our JOIN. Raises RemoteProtocolError for that to another one."""
        if not isinstance(message, Welcome):
            raise RemoteProtocolError(Close.STATE, "JOINED answers another JOIN than ours")
        self.answer.set(message)

    def pong_received(self, number: int, round_trip_s: float) -> None:
        """The server is there."""

    def close_received(self, code: int, text: str) -> None:
        """The server says no, or goodbye."""
        self._failed(Rejected(code, text, final=True))

    def link_ended(self, link: Link, error: AeroError) -> None:
        """The connection is closed."""
        if isinstance(error, ProtocolError):
            self._failed(error)
        else:
            self._failed(NetworkError(f"the server did not answer: {error}"))
