"""What the parts of one worker share. Knows no lane, no session and no target."""

from __future__ import annotations

import os

from aero import logs
from aero.config.roles import ClientConfig
from aero.core import features
from aero.core.aead.choose import choose_lazily
from aero.core.memory import Memory
from aero.core.session import SessionLimits
from aero.core.spake2plus import Password
from aero.core.stretch import Stretch, stretch
from aero.errors import HostError
from aero.host.facts import memory_share
from aero.limits import Limits
from aero.net import congestion
from aero.net.lookup import Names
from aero.net.loop import event_loop
from aero.worker.honoured import packs
from aero.worker.outlets import Outlets

log = logs.get("worker")


class Ground:
    """Loop, memory and configuration of one worker process.

    A reload replaces ``config`` and ``password``; nobody keeps a copy of either. What a lane reads there counts from
    its next link on.
    """

    def __init__(self, config: ClientConfig, stretch: Stretch = stretch) -> None:
        """``stretch``: what stretches the auth code, perhaps begun by now.

        Raises ConfigError, and HostError where no AES-GCM works or --congestion is not to be had.
        """
        self.config = config
        self._stretch = stretch
        self._password: Password | None = None
        self.backend = choose_lazily(config.aead)
        congestion.require(config.congestion)
        self.identity = ""  # from the start on: see identity.py
        self.memory = Memory(config.memory or memory_share())
        self.session_limits = SessionLimits()
        self.loop = event_loop()
        # The server's name has a thread of its own: targets' dead names must not keep us from dialling.
        # Where there are several servers or proxies, each has its own.
        self.names = Names(self.loop, Limits.DIAL_THREADS)
        self.outlets = Outlets(config, os.environ)
        self._zstd_lacks = False

    @property
    def password(self) -> Password:
        """What the auth code has become. Whoever asks first waits for it, some 50 ms: a dial begins before."""
        if self._password is None:
            self._password = Password(*self._stretch(self.config.auth, self.config.user))
        return self._password

    @password.setter
    def password(self, password: Password) -> None:
        self._password = password

    @property
    def offered(self) -> int:
        """The bits of core/features.py that the next link offers.

        zstd is among them from the first link on before which a target wants it, and stays: what a session keeps for
        its next link may be compressed.
        """
        memory = self.memory
        if memory.packer is None and not self._zstd_lacks and any(map(packs, self.config.targets)):
            from aero.core import packing

            try:
                memory.packer = packing.make(memory.incoming.set_aside)
            except HostError as error:
                self._zstd_lacks = True
                log.warning("this host has no zstd: streams go uncompressed", why=error)
        return features.OFFERED | (features.ZSTD if memory.packer is not None else 0)
