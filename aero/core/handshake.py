"""The handshake: four messages that turn an auth code into a link's keys. Knows no sockets, no users' table.

PROTOCOL.md, section "Handshake":

    worker                                              server
      HELLO      share pA, features, user        ->
                                                 <-     SERVER_HELLO  share pB, features
      CONFIRM    proof                           ->
                                                 <-     CONFIRM  proof

The worker proves itself first, other than in RFC 9383, so that somebody who only connects learns nothing that could
tell a right guess from a wrong one. HELLO and SERVER_HELLO, whole, are part of the context of SPAKE2+: who changes a
version, a feature or a name on the way makes both proofs fail. FAIL may take any message's place, and nothing vouches
for it.

Each side is a table, state x message -> method; a message that is missing from it is the protocol error.
"""

from __future__ import annotations

import struct
from typing import Any, Callable, NamedTuple

from aero.core import features
from aero.core.codes import Close
from aero.core.digest import hkdf_expand, same
from aero.core.spake2plus import (
    CONFIRMATION_BYTES,
    SHARE_BYTES,
    Keys,
    Password,
    ProverRun,
    Verifier,
    VerifierRun,
)
from aero.core.stretch import SCALAR_BYTES, identity_of
from aero.errors import Rejected, RemoteProtocolError, SecurityError

MAGIC = b"AeRO"
VERSION = 2
HEADER = struct.Struct("!4sBBH")  # magic, version, kind, body length
HEADER_BYTES = HEADER.size
MAX_BODY_BYTES = 512  # HELLO with the longest user name has 134
MAX_USER_BYTES = 64

HELLO, SERVER_HELLO, CONFIRM, FAIL = 1, 2, 3, 15
NAMES = {HELLO: "HELLO", SERVER_HELLO: "SERVER_HELLO", CONFIRM: "CONFIRM", FAIL: "FAIL"}

_U32 = struct.Struct("!I")
_CONTEXT = b"AeRO-proxy link"
_HTTP_METHODS = b"GET POST PUT HEAD OPTIONS DELETE PATCH CONNECT PRI".split()
#: The user name under which the code is proved that the server is about to change to; else it is the user "".
NEXT_USER = "+next"
#: With its number behind it, the user name under which an invitation's code is proved.
INVITED = "+invited."
_WRONG_CODE = "wrong auth code"  # and unknown user: whoever asks must not learn which


class LinkSecrets(NamedTuple):
    """What a finished handshake gives: 32 bytes for each direction's records, and the features.py bits of both."""

    ours: bytes
    theirs: bytes
    features: int


def message(kind: int, body: bytes) -> bytes:
    """One handshake message, whole."""
    return HEADER.pack(MAGIC, VERSION, kind, len(body)) + body


def fail(code: int, text: str) -> bytes:
    """FAIL: u8 close code, a text for people. Its layout is the same in every version."""
    return message(FAIL, bytes((code,)) + text.encode("utf-8", "replace")[:200])


def describe(first: bytes) -> str:
    """What somebody probably speaks who does not speak this protocol, from the first bytes."""
    if first.startswith(b"\x16\x03"):
        return "TLS"
    if first.startswith(b"SSH-"):
        return "SSH"
    if first.startswith(b"HTTP/"):
        return "an HTTP server's answer"
    if first.split(b" ")[0] in _HTTP_METHODS:
        return "HTTP"
    return "something unknown"


class _Handshake:
    """What both sides share: gathering messages, the table, the keys."""

    def __init__(self) -> None:
        self._buffer = b""
        self._state = 0
        self._table: dict[tuple[int, int], Callable[[Any, bytes, bytes], bytes]] = {}
        self.secrets: LinkSecrets | None = None
        self.rest = b""  # what came behind the handshake's last message: the first records

    def gather(self, data: bytes) -> bool:
        """Takes bytes from the peer; True when they make up a message, which ``answer`` will handle.

        Raises RemoteProtocolError for what cannot become one.
        """
        self._buffer += data
        return self.secrets is None and self._size() > 0

    def receive(self, data: bytes) -> bytes:
        """Takes bytes from the peer, gives bytes to send: ``gather`` and ``answer`` in one."""
        self.gather(data)
        return self.answer()

    def answer(self) -> bytes:
        """Handles the whole messages that have come; gives bytes to send. At the end of it all ``secrets`` is set.

        Raises RemoteProtocolError (bad bytes), SecurityError (the proof is wrong), Rejected (the server said no).
        """
        answer = b""
        while self.secrets is None:
            whole = self._next()
            if whole is None:
                return answer
            kind = whole[5]
            body = whole[HEADER_BYTES:]
            if kind == FAIL and body:
                raise Rejected(
                    body[0],
                    body[1:].decode("utf-8", "replace"),
                    final=body[0] in (Close.AUTH, Close.AUTH_NEXT),
                )
            handle = self._table.pop((self._state, kind), None)  # once: no second guess after a wrong proof
            if handle is None:
                raise RemoteProtocolError(
                    Close.STATE, f"{NAMES.get(kind, f'message {kind}')} may not come now"
                )
            answer += handle(self, whole, body)
            self._state += 1
        self.rest += self._buffer
        self._buffer = b""
        return answer

    def _next(self) -> bytes | None:
        """Cuts one whole message off the buffer; None when it is not there yet."""
        size = self._size()
        if not size:
            return None
        data = self._buffer
        self._buffer = data[size:]
        return data[:size]

    def _size(self) -> int:
        """The first message's length in bytes, 0 while some of it is missing. Raises RemoteProtocolError."""
        data = self._buffer
        if not MAGIC.startswith(data[:4]):
            raise RemoteProtocolError(Close.NOT_AERO, f"the peer speaks {describe(data)}, not this protocol")
        if len(data) < HEADER_BYTES:
            return 0
        _, version, kind, length = HEADER.unpack_from(data)
        if version != VERSION and kind != FAIL:
            raise RemoteProtocolError(
                Close.VERSION, f"the peer speaks protocol version {version}, this program {VERSION}"
            )
        if length > MAX_BODY_BYTES:
            raise RemoteProtocolError(Close.FRAME, f"a handshake message of {length} bytes")
        size = HEADER_BYTES + length
        return size if len(data) >= size else 0


def _context(hello: bytes, server_hello: bytes) -> bytes:
    """SPAKE2+'s context: what both ends have seen of the handshake, and what it is for."""
    return _CONTEXT + hello + server_hello


def _link_secrets(keys: Keys, agreed: int) -> tuple[LinkSecrets, LinkSecrets]:
    """(worker's, server's) secrets; PROTOCOL.md, section "Keys"."""
    upward = hkdf_expand(keys.shared, b"aero worker to server", 32)
    downward = hkdf_expand(keys.shared, b"aero server to worker", 32)
    return LinkSecrets(upward, downward, agreed), LinkSecrets(downward, upward, agreed)


class WorkerHandshake(_Handshake):
    """The dialling side."""

    def __init__(self, password: Password, user: str, random: bytes, offered: int = features.OFFERED) -> None:
        """``random``: SCALAR_BYTES fresh bytes; ``user``: "" or a name of at most MAX_USER_BYTES.

        ``offered``: the bits of features.py that this end has.
        """
        super().__init__()
        self._offered = offered
        #: set once the CONFIRM is on its way: what we seal from here on only a server that knows the code can
        #: open, so the first record need not wait for its proof
        self.our_secret = b""
        self._run = ProverRun(password, random)
        self._identity = identity_of(user)
        self._hello = message(
            HELLO, self._run.share + _U32.pack(offered) + bytes((len(self._identity),)) + self._identity
        )
        cls = WorkerHandshake  # functions, not methods: nothing here holds itself
        self._table = {(0, SERVER_HELLO): cls._handle_server_hello, (1, CONFIRM): cls._handle_confirm}

    def start(self) -> bytes:
        """The first message."""
        return self._hello

    def _handle_server_hello(self, whole: bytes, body: bytes) -> bytes:
        if len(body) != SHARE_BYTES + 4:
            raise RemoteProtocolError(Close.FRAME, f"SERVER_HELLO of {len(body)} bytes")
        agreed = _U32.unpack_from(body, SHARE_BYTES)[0] & self._offered
        self._keys = self._run.finish(body[:SHARE_BYTES], _context(self._hello, whole), self._identity)
        self._unproved = _link_secrets(self._keys, agreed)[0]
        self.our_secret = self._unproved.ours
        return message(CONFIRM, self._keys.our_confirmation)

    def _handle_confirm(self, whole: bytes, body: bytes) -> bytes:
        if not same(body, self._keys.their_confirmation):
            raise SecurityError("the server does not know the auth code")
        self.secrets = self._unproved
        return b""


class ServerHandshake(_Handshake):
    """The listening side."""

    def __init__(
        self,
        find_verifier: Callable[[str], Verifier],
        random: bytes,
        offered: Callable[[int], int] = features.always,
    ) -> None:
        """``find_verifier``: user name -> Verifier, one of a code that nobody knows for an unknown user.

        ``random``: as for the worker's side. ``offered``: bits of features.py that the worker has -> those that this
        end has.
        """
        super().__init__()
        self._find_verifier = find_verifier
        self._random = random
        self._offered = offered
        self.user = ""
        cls = ServerHandshake
        self._table = {(0, HELLO): cls._handle_hello, (1, CONFIRM): cls._handle_confirm}

    @property
    def begun(self) -> bool:
        """True once the peer has had an answer: from then on leaving is as suspicious as a wrong proof."""
        return self._state > 0

    def _handle_hello(self, whole: bytes, body: bytes) -> bytes:
        fixed = SHARE_BYTES + 5
        if not fixed <= len(body) <= fixed + MAX_USER_BYTES or len(body) != fixed + body[fixed - 1]:
            raise RemoteProtocolError(Close.FRAME, f"HELLO of {len(body)} bytes")
        identity = body[fixed:]
        try:
            self.user = identity.decode("utf-8")
        except UnicodeDecodeError:
            raise RemoteProtocolError(Close.FRAME, "the user name in HELLO is not UTF-8") from None
        run = VerifierRun(self._find_verifier(self.user), self._random)
        theirs = _U32.unpack_from(body, SHARE_BYTES)[0]
        self._agreed = theirs & self._offered(theirs)
        answer = message(SERVER_HELLO, run.share + _U32.pack(self._agreed))
        self._keys = run.finish(body[:SHARE_BYTES], _context(whole, answer), identity)
        return answer

    def _handle_confirm(self, whole: bytes, body: bytes) -> bytes:
        if not same(body, self._keys.their_confirmation):
            raise SecurityError(_WRONG_CODE)
        self.secrets = _link_secrets(self._keys, self._agreed)[1]
        return message(CONFIRM, self._keys.our_confirmation)


__all__ = [
    "CONFIRMATION_BYTES",
    "SCALAR_BYTES",
    "LinkSecrets",
    "ServerHandshake",
    "WorkerHandshake",
    "describe",
    "fail",
]
