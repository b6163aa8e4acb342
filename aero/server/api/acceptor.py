"""pywsgi's server as the API uses it: without descriptors it waits a moment, and says so in one line.

Knows sockets, not what they lead to.
"""

from __future__ import annotations

import errno
import socket
from typing import Any

from gevent.pywsgi import WSGIServer

from aero import logs

log = logs.get("listener")

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor(WSGIServer):
    """Accepts on one socket."""

    def accept(self) -> tuple[socket.socket, Any] | None:
        """One connection and where it comes from. Raises OSError."""
        accepted: tuple[socket.socket, Any] | None = super().do_read()
        if accepted is not None and not isinstance(accepted[1], tuple):
            return accepted[0], ("localhost", 0)  # at a path in the file system peers have no address
        return accepted

    def do_read(self) -> tuple[socket.socket, Any] | None:
        """As ``accept``; None when there is nobody, or there are no descriptors left."""
        try:
            return self.accept()
        except OSError as error:
            if error.errno in _EXHAUSTED:
                log.warning(
                    "cannot accept for now; raise the limit of open files (ulimit -n)", error=error.strerror
                )
                self.stop_accepting()
                self._timer = self.loop.timer(self.max_delay)
                self._timer.start(self._start_accepting_if_started)
            return None
