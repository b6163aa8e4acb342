"""What the server shows who speaks TLS: the operator's certificates, by name, or one that it has made itself.

Certificates are read anew when their files change, at most once a second and only when somebody comes; connections keep
those with which they began. What cannot be read changes nothing, and is said once. ``ssl`` is imported with the first
context: a server without --tls-cert whose workers come by TCP never does.
"""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from aero import logs
from aero.errors import ConfigError, HostError, NetworkError, SourceError
from aero.net.pin import first_in, names_of, pin_of

if TYPE_CHECKING:
    import ssl

log = logs.get("tls")

LOOK_S = 1.0  # how often files are looked at
_State = tuple[float, int]


class Pair(NamedTuple):
    """Two files: a certificate with those that lead to its root, and its key; PEM. Often one file."""

    certificate: str
    key: str

    def state(self) -> tuple[_State, ...]:
        """What changes with the files. Raises OSError."""
        found = [os.stat(path) for path in self]
        return tuple((each.st_mtime, each.st_ino) for each in found)


class _Loaded(NamedTuple):
    """A pair as it was read."""

    context: ssl.SSLContext
    names: list[str]
    pin: str

    def covers(self, name: str) -> bool:
        """Whether the certificate is for ``name``, in lower case (RFC 6125, section 6.4: a star is one label)."""
        return name in self.names or "*." + name.partition(".")[2] in self.names


class Certificates:
    """All of a server's certificates."""

    def __init__(self, pairs: tuple[Pair, ...], folder: str) -> None:
        """``pairs``: the operator's; the first is shown where no name is asked for, or another one. Without any, one
        that is made at need and kept in ``folder``, unless that is "". Reads nothing yet.
        """
        self.pairs = pairs
        self._folder = folder
        self._loaded: list[_Loaded] = []
        self._states: list[tuple[_State, ...]] = []
        self._look_at = 0.0
        self._said = ""  # the last complaint

    def change(self, pairs: tuple[Pair, ...]) -> bool:
        """Takes other files from now on, or the same ones anew; whether anything is different.

        Raises ConfigError, which names the file; then nothing has changed.
        """
        before, states, self.pairs = self.pairs, self._states, pairs
        if not pairs and not before:
            return False
        try:
            self.load()
        except ConfigError:
            self.pairs = before
            raise
        return pairs != before or states != self._states

    def load(self) -> None:
        """Reads all pairs. Raises ConfigError, which names the file; then nothing has changed."""
        pairs = self.pairs or (self._own(),)
        try:
            states = [pair.state() for pair in pairs]
            loaded = [_load(pair) for pair in pairs]
        except OSError as error:
            raise SourceError(f"cannot read {error.filename}: {error.strerror or error}") from error
        finally:
            if not self.pairs and not self._folder:
                os.unlink(pairs[0].key)
        if len(loaded) > 1:
            loaded[0].context.sni_callback = self.choose
        self._loaded, self._states = loaded, states

    def context(self) -> ssl.SSLContext:
        """What a new connection begins with; it turns to another one by the name that is asked for.

        Raises NetworkError where there is no certificate and none can be made; the log has the reason.
        """
        if not self._loaded:
            try:
                self.load()
            except (ConfigError, OSError) as error:
                self._complain("TLS has no certificate", error)
                raise NetworkError(f"no certificate: {error}") from error
        elif self.pairs and monotonic() >= self._look_at:
            self._look()
        return self._loaded[0].context

    def covers(self, name: str) -> bool:
        """Whether one of those that were read is for a name, in lower case."""
        return any(each.covers(name) for each in self._loaded)

    def pin(self) -> str:
        """The first one's. Raises NetworkError."""
        self.context()
        return self._loaded[0].pin

    def _look(self) -> None:
        """Reads the files again where they have changed."""
        self._look_at = monotonic() + LOOK_S
        try:
            if [pair.state() for pair in self.pairs] == self._states:
                return
            self.load()
        except (ConfigError, OSError) as error:
            self._complain("the new certificate cannot be used, keeping the previous one", error)
            return
        self._said = ""
        log.info("certificates were read anew", pin=self._loaded[0].pin)

    def _complain(self, what: str, error: Exception) -> None:
        if str(error) != self._said:  # whoever comes next need not hear it again
            self._said = str(error)
            log.warning(what, error=error)

    def choose(self, connection: Any, name: str | None, _: ssl.SSLContext) -> None:
        """Called by ssl with the name that the peer asks for (SNI)."""
        wanted = (name or "").lower()
        for each in self._loaded if wanted else ():
            if each.covers(wanted):
                connection.context = each.context
                return

    def _own(self) -> Pair:
        """The one that is ours. Raises OSError."""
        from aero.server.links import selfmade

        if self._folder:
            path = selfmade.kept_in(self._folder)
        else:
            import tempfile

            descriptor, path = tempfile.mkstemp()
            with open(descriptor, "w") as file:
                file.write(selfmade.make())
        return Pair(path, path)


def pin_in(path: str, folder: str) -> str:
    """The pin of the first certificate in a file; "" for the one of a server that keeps its state in ``folder``.

    Raises HostError.
    """
    from aero.server.links import selfmade

    if not path and not folder:
        raise HostError("this user has no state folder: say where the server keeps its state, --state DIR")
    try:
        path = path or selfmade.kept_in(folder)
        with open(path) as file:
            return pin_of(first_in(file.read()))
    except OSError as error:
        raise HostError(f"cannot read {path or folder}: {error.strerror or error}") from None
    except ValueError as error:
        raise HostError(f"{path} is no certificate in PEM: {error}") from None


def _load(pair: Pair) -> _Loaded:
    """Raises ConfigError, OSError."""
    try:
        import ssl
    except ImportError as error:  # a Python that was built without OpenSSL
        raise ConfigError(f"this Python has no TLS: {error}") from error

    from aero.net.tls import ALPN

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_alpn_protocols(list(ALPN))
    try:
        with open(pair.certificate) as file:
            text = file.read()
        with open(pair.key):
            pass  # says which of the two cannot be read
        context.load_cert_chain(pair.certificate, pair.key, _no_password)
        first = first_in(text)
        return _Loaded(context, names_of(first), pin_of(first))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"{pair.certificate} and {pair.key} are no certificate and its key in PEM, without a password:"
            f" {getattr(error, 'reason', None) or error}"
        ) from error


def _no_password() -> str:
    """For ssl, which would ask on the terminal."""
    raise ValueError("the key wants a password")
