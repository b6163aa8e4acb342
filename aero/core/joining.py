"""JOIN and JOINED: what the two ends of a link say first, as types (PROTOCOL.md, same names), and in which order.

Each type packs itself; `parse_join` and `parse_joined` read a payload, check every field, and raise RemoteProtocolError
for one that does not fit. Nothing outside this module knows a key's name. Keys that are not named here are ignored, so
that later versions can add some.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Union

from aero.address import check_tag, host
from aero.core import fields, frames
from aero.core.codes import Close
from aero.errors import ConfigError, RemoteProtocolError

# --- the state of joining --------------------------------------------------------------------------

NEW, WE_ASKED, THEY_ASKED, AGREED = "new", "we asked", "they asked", "agreed"
OUR_JOIN, THEIR_JOIN, OUR_JOINED, THEIR_JOINED = "our JOIN", "their JOIN", "our JOINED", "their JOINED"

#: State × what is said → state, for both ends of a link. What is missing may not be said.
JOINING = {
    (NEW, OUR_JOIN): WE_ASKED,
    (NEW, THEIR_JOIN): THEY_ASKED,
    (WE_ASKED, THEIR_JOINED): AGREED,
    (THEY_ASKED, OUR_JOINED): AGREED,
}

# --- fields ----------------------------------------------------------------------------------------

#: What a link may be for: a worker, or somebody who was invited and asks for a credential. The others are reserved.
WORKER, INVITED = "worker", "invited"
ROLES = (WORKER, INVITED, "visitor", "node")
#: The name of a credential, which stands behind its user's and "+".
CREDENTIAL = re.compile(r"[a-z0-9]{4,16}")
MAX_VERIFIER_CHARS = 200  # "spake2plus$" and 130 more
MAX_LOGIN_CHARS = 64
MAX_ALLOW_CHARS = 1024
#: Seconds between pings: what a worker may ask for, and what counts when it asks for nothing.
PING_S = (1, 3600)
DEFAULT_PING_S = 60
#: Seconds that a session without a link is kept: at most a day.
MAX_RESUME_S = 86_400
MAX_VERSION_CHARS = 64


def _version(message: str, data: dict[str, Any]) -> str:
    return fields.text(message, data, "v", MAX_VERSION_CHARS)


def _ascii_host(text: str) -> str:
    if not text.isascii():
        raise ConfigError(f"{text!r} is not ASCII")
    return host(text)


def _credential(text: str) -> str:
    if not CREDENTIAL.fullmatch(text):
        raise ConfigError("it has 4 to 16 small letters and digits")
    return text


# --- JOIN and JOINED -------------------------------------------------------------------------------


class JoinNew(NamedTuple):
    """JOIN that asks for a new worker with its first session."""

    version: str
    ping_s: float
    identity: str
    tag: str
    host: str

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json(
            {"v": self.version, "ping": self.ping_s}
            | {"identity": self.identity, "tag": self.tag, "host": self.host}
        )


class JoinBeside(NamedTuple):
    """JOIN that asks for one more session of the worker whose session ``beside`` is; ``secret`` is that one's."""

    version: str
    ping_s: float
    beside: str
    secret: str

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json(
            {"v": self.version, "ping": self.ping_s, "beside": self.beside, "secret": self.secret}
        )


class JoinTakeOver(NamedTuple):
    """JOIN that asks for a session to go on: as its ``link``-th link, from ``received`` of the server's sequence."""

    version: str
    ping_s: float
    session: str
    secret: str
    link: int
    received: int

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json(
            {
                "v": self.version,
                "ping": self.ping_s,
                "session": self.session,
                "secret": self.secret,
                "link": self.link,
                "received": self.received,
            }
        )


class JoinInvited(NamedTuple):
    """JOIN of somebody who has proved an invitation's code: asks for a credential.

    ``id`` is the name that it is to have, and ``verifier`` what proves it; both are the asker's choice, so that the
    code itself never leaves it, and asking again with the same two changes nothing. ``host``: for people.
    """

    version: str
    host: str
    id: str
    verifier: str

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json(
            {"v": self.version, "role": INVITED, "host": self.host, "id": self.id, "verifier": self.verifier}
        )


Join = Union[JoinNew, JoinBeside, JoinTakeOver, JoinInvited]


def parse_join(payload: memoryview) -> Join:
    """The JOIN in a frame's payload.

    Raises RemoteProtocolError: Close.FRAME for a field that does not fit, Close.DENIED for a name or a role that
    may not be.
    """
    data = frames.unpack_json(payload, frames.JOIN)
    role = data.get("role", WORKER)
    if role == INVITED:
        return JoinInvited(
            _version("JOIN", data),
            fields.word("JOIN", data, "host", _ascii_host),
            fields.word("JOIN", data, "id", _credential),
            fields.text("JOIN", data, "verifier", MAX_VERIFIER_CHARS),
        )
    if role != WORKER:
        known = f"the role {role} is not served here" if role in ROLES else "its role is not known here"
        raise RemoteProtocolError(Close.DENIED, f"JOIN: {known}")
    version = _version("JOIN", data)
    ping_s = fields.seconds("JOIN", data, "ping", DEFAULT_PING_S, *PING_S)
    if "session" in data:
        return JoinTakeOver(
            version,
            ping_s,
            fields.token("JOIN", data, "session"),
            fields.token("JOIN", data, "secret"),
            fields.count("JOIN", data, "link", 1, fields.MAX_POSITION),
            fields.count("JOIN", data, "received", 0, fields.MAX_POSITION),
        )
    if "beside" in data:
        return JoinBeside(
            version, ping_s, fields.token("JOIN", data, "beside"), fields.token("JOIN", data, "secret")
        )
    return JoinNew(
        version,
        ping_s,
        fields.token("JOIN", data, "identity"),
        fields.word("JOIN", data, "tag", check_tag),
        fields.word("JOIN", data, "host", _ascii_host),
    )


class JoinedNew(NamedTuple):
    """JOINED with a new session: the worker's ``cid``, the session's id and secret, how long it is kept unlinked."""

    version: str
    cid: str
    session: str
    secret: str
    resume_s: float

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json(
            {
                "v": self.version,
                "cid": self.cid,
                "session": self.session,
                "secret": self.secret,
                "resume": self.resume_s,
            }
        )


class JoinedAgain(NamedTuple):
    """JOINED for a session that goes on, from ``received`` of the worker's sequence."""

    version: str
    session: str
    received: int

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json({"v": self.version, "session": self.session, "received": self.received})


class Welcome(NamedTuple):
    """JOINED for somebody who was invited: the credential counts. ``login`` is its whole name, USER+ID; ``tag`` the one
    that its workers have, ``allow`` where their targets may be, "" for anywhere.
    """

    version: str
    login: str
    tag: str
    allow: str

    def pack(self) -> bytes:
        """The payload."""
        return frames.pack_json(
            {"v": self.version, "login": self.login, "tag": self.tag, "allow": self.allow}
        )


Joined = Union[JoinedNew, JoinedAgain, Welcome]


def parse_joined(payload: memoryview) -> Joined:
    """The JOINED in a frame's payload. Raises RemoteProtocolError."""
    data = frames.unpack_json(payload, frames.JOINED)
    version = _version("JOINED", data)
    if "login" in data:
        login = fields.text("JOINED", data, "login", MAX_LOGIN_CHARS)
        allow = fields.text("JOINED", data, "allow", MAX_ALLOW_CHARS)
        return Welcome(version, login, fields.word("JOINED", data, "tag", check_tag), allow)
    session = fields.token("JOINED", data, "session")
    if "received" in data:
        return JoinedAgain(version, session, fields.count("JOINED", data, "received", 0, fields.MAX_POSITION))
    return JoinedNew(
        version,
        fields.token("JOINED", data, "cid"),
        session,
        fields.token("JOINED", data, "secret"),
        fields.seconds("JOINED", data, "resume", 0, 0, MAX_RESUME_S),
    )
