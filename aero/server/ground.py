"""The ground: what the server's parts share, put together once by app.py and never changed.

No part takes the whole of it. Each declares, as a Protocol where it is used, which of these it needs
(``SessionGround``, ``GateGround``, ``ApiGround`` …), so that its module says what it depends on, and a test can
give it just that. Therefore nobody but app.py imports this module.
"""

from __future__ import annotations

from typing import NamedTuple

from aero.core.aead.backend import Backend
from aero.core.memory import Memory
from aero.core.session import SessionLimits
from aero.net.announced import Announcers
from aero.net.loop import Loop
from aero.server.present import Present
from aero.server.registry.registry import Registry
from aero.server.store.leases import Leases
from aero.server.store.rhythms import Rhythms
from aero.server.store.usage import Usage
from aero.server.watch.counters import Birth, Counters
from aero.server.watch.events import Events


class Ground(NamedTuple):
    """What the parts of one server share. A NamedTuple: ``dataclasses`` would cost each start 6 ms and 1 MB."""

    loop: Loop
    present: Present
    birth: Birth
    backend: Backend
    memory: Memory  # what all sessions may hold
    session_limits: SessionLimits
    counters: Counters
    events: Events
    leases: Leases
    rhythms: Rhythms
    usage: Usage | None  # None with --no-history
    announcers: Announcers
    registry: Registry
