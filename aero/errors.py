"""Every error that AeRO-proxy raises on purpose. Nothing else may live here; this module imports nothing.

AeroError
├── ConfigError            an option, environment variable or file says something impossible (exit 2)
│   └── SourceError            a file that options come from cannot be read
├── HostError              this host cannot run AeRO-proxy (exit 78)
├── Busy                   another start holds the lock (exit 0)
├── ProtocolError          the wire's rules were broken
│   ├── LocalProtocolError     by us: a bug in this program
│   └── RemoteProtocolError    by the peer: the link ends, with a code and the rule's name
├── SecurityError          a proof, a tag or a secret did not match
├── Rejected               the server said no, and why
├── PortError              a mapping's port cannot be had
├── LinkClosed             the link ended, cleanly or not
├── StreamError            one stream ended early; everything else goes on
├── MessageError           an HTTP message breaks a rule: its connection ends, with a status and the rule's name
├── Problem                a call of the API that gets no better answer than this error
└── NetworkError           the operating system's network said no
    ├── DialError              no address of the peer could be reached
    │   └── PassageError           something between us and the peer does not let us through
    │       └── UpgradeError           whoever was asked for a WebSocket did not switch
    ├── FrameError             a WebSocket's peer broke a rule of its framing
    └── ListenError            an address could not be listened on (exit 4)
"""

from __future__ import annotations


class AeroError(Exception):
    """Root of the hierarchy; its text is one line, fit for a person."""


class ConfigError(AeroError):
    """An option, environment variable or file says something impossible."""


class SourceError(ConfigError):
    """A file that options come from, a code or a configuration, cannot be read."""


class Busy(AeroError):
    """Another start holds the lock that this one was to take."""


class HostError(AeroError):
    """This host cannot run AeRO-proxy."""


class ProtocolError(AeroError):
    """The wire's rules were broken.

    ``code`` is a close code of PROTOCOL.md, section "Close codes".
    """

    def __init__(self, code: int, text: str) -> None:
        """``code``: a close code; ``text``: one line that names the rule."""
        super().__init__(text)
        self.code = code


class LocalProtocolError(ProtocolError):
    """We asked the protocol core for something that the wire forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule of PROTOCOL.md."""


class SecurityError(AeroError):
    """A proof, a tag or a secret did not match."""


class Rejected(AeroError):
    """The server said no.

    ``code`` is a close code of PROTOCOL.md; ``final`` tells whether asking again can help.
    """

    def __init__(self, code: int, text: str, *, final: bool) -> None:
        """``code``: a close code; ``text``: why; ``final``: asking again does not help."""
        super().__init__(text)
        self.code = code
        self.final = final


class PortError(AeroError):
    """A mapping's port cannot be had. ``final`` tells whether asking again is of no use."""

    def __init__(self, text: str, *, final: bool) -> None:
        """``text``: why; ``final``: asking again does not help."""
        super().__init__(text)
        self.final = final


class BindError(AeroError):
    """A port that cannot be listened on, of those that a mapping was to have."""

    def __init__(self, port: int, error: OSError) -> None:
        """``error``: why."""
        super().__init__(str(error))
        self.port = port
        self.error = error


class LinkClosed(AeroError):
    """The link ended, cleanly or not."""


class StreamError(AeroError):
    """One stream ended early.

    ``code`` is a reset code of PROTOCOL.md, section "Reset codes".
    """

    def __init__(self, code: int, text: str) -> None:
        """``code``: a reset code; ``text``: why."""
        super().__init__(text)
        self.code = code


class MessageError(AeroError):
    """An HTTP message breaks a rule.

    ``status`` is what a visitor gets who sent it; a target that did is a 502.
    """

    def __init__(self, status: int, text: str) -> None:
        """``status``: of HTTP; ``text``: the rule that was broken."""
        super().__init__(text)
        self.status = status


class Problem(AeroError):
    """A call of the API gets this error for an answer.

    ``status`` is the HTTP status, ``headers`` go with it.
    """

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        """``status``: of HTTP; ``text``: what is wrong and what to do; ``headers``: names and values."""
        super().__init__(text)
        self.status = status
        self.headers = headers


class NetworkError(AeroError):
    """The operating system's network said no."""


class DialError(NetworkError):
    """No address of the peer could be reached."""


class PassageError(DialError):
    """Something that was reached, a proxy or a gateway, does not let us through, and why."""


class UpgradeError(PassageError):
    """Whoever was asked for a WebSocket did not switch.

    ``status`` is that of HTTP, 0 where the answer was none of HTTP's; ``headers`` are its fields by name in lower case,
    ``body`` is what came of the text behind them, a few KiB at most.
    """

    def __init__(
        self, text: str, status: int = 0, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        """``text``: what is wrong."""
        super().__init__(text)
        self.status = status
        self.headers = headers or {}
        self.body = body


class FrameError(NetworkError, OSError):
    """A WebSocket's peer broke a rule of its framing. An OSError too: it ends a connection as a broken one does.

    ``code`` is the one to close with (RFC 6455, section 7.4.1).
    """

    def __init__(self, code: int, text: str) -> None:
        """``text``: the rule that was broken."""
        super().__init__(text)
        self.code = code


class ListenError(NetworkError):
    """An address could not be listened on."""
