"""What the parts of one worker share. Knows no lane, no session and no target."""

from __future__ import annotations

import os

from aero.config.roles import ClientConfig
from aero.core.aead.choose import choose_lazily
from aero.core.memory import Memory
from aero.core.session import SessionLimits
from aero.core.spake2plus import Password
from aero.core.stretch import Stretch, stretch
from aero.host.facts import memory_share
from aero.limits import Limits
from aero.net.lookup import Names
from aero.net.loop import event_loop
from aero.worker.outlets import Outlets


class Ground:
    """Loop, memory and configuration of one worker process.

    A reload replaces ``config`` and ``password``; nobody keeps a copy of either. What a lane reads there counts from
    its next link on.
    """

    def __init__(self, config: ClientConfig, stretch: Stretch = stretch) -> None:
        """Stretches the auth code, which takes some 50 ms. Raises HostError where no AES-GCM works, and ConfigError."""
        self.config = config
        self.password = Password(*stretch(config.auth, config.user))
        self.backend = choose_lazily(config.aead)
        self.identity = ""  # from the start on: see identity.py
        self.memory = Memory(config.memory or memory_share())
        self.session_limits = SessionLimits()
        self.loop = event_loop()
        # The server's name has a thread of its own: targets' dead names must not keep us from dialling.
        # Where there are several servers or proxies, each has its own.
        self.names = Names(self.loop, Limits.DIAL_THREADS)
        self.outlets = Outlets(config, os.environ)
