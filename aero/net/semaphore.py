"""gevent's semaphore, without gevent.monkey and logging, which gevent.lock imports beside it: 0.6 MB of a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["Semaphore"]

if TYPE_CHECKING:
    from gevent.lock import Semaphore
else:
    try:
        from gevent._semaphore import Semaphore
    except ImportError:  # another version, which has it elsewhere
        from gevent.lock import Semaphore
