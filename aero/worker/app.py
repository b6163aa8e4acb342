"""The worker's life: lanes to the server, targets behind it, until told to stop."""

from __future__ import annotations

import os
import sys
from functools import partial
from typing import Callable

from gevent.event import AsyncResult

from aero import __version__, logs
from aero.address import EVERYWHERE, Address, LocalPlace, Target
from aero.config.roles import ClientConfig, reloaded
from aero.core import features
from aero.core.codes import Close
from aero.core.spake2plus import Password
from aero.core.stretch import Stretch, stretch
from aero.errors import AeroError, Rejected, SecurityError
from aero.host.run import on_signals, reload_done, reload_failed, set_up
from aero.net.threads import apart
from aero.worker.crew import Crew
from aero.worker.dump import dump
from aero.worker.ground import Ground
from aero.worker.identity import Identity, take
from aero.worker.outlets import Outlets
from aero.worker.registration import Registration
from aero.worker.targets import Services

log = logs.get("worker")


class WorkerApp:
    """Puts one worker together; starts, reloads and stops it."""

    def __init__(
        self,
        config: ClientConfig,
        announce: Callable[[Target, int], None],
        identity: Identity | None = None,
        stretch: Stretch = stretch,
    ) -> None:
        """``announce(target, port)``: a target can be reached at the server's ``port``.

        ``identity``: who it is; None: what the host has kept for it, from the start on. ``stretch``: what stretches the
        first auth code. Raises HostError.
        """
        self.ground = Ground(config, stretch)
        self.services = Services(self.ground.loop, config.targets, config.allow)
        self.registration = Registration(self.ground.loop, self.services, announce)
        self.outcome: AsyncResult[int] = AsyncResult()
        self._identity = identity
        self.crew = Crew(self.ground, self.registration, self.outcome.set_exception)
        self.registration.speaker = self.crew.speaker

    def start(self) -> None:
        """Takes an identity, and begins to dial."""
        config = self.ground.config
        self._identity = self._identity or take(config)
        self.ground.identity = self._identity.text
        log.info(
            f"AeRO-proxy {__version__} worker",
            server=config.server,
            **({"user": config.user} if config.user else {}),
            tag=config.tag,
            host=config.host,
            aead=self.ground.backend.description,
            auth="set" if config.auth else "none",
        )
        if not config.auth:
            log.warning(
                "no auth code is set: the link is encrypted, but nothing proves who the server is; see --auth"
            )
        if config.tls_insecure and any(way.by_tls for way in config.server.ways):
            log.warning("the server's certificate is not checked: only the code protects the link now")
        if config.server.ways[0].host in EVERYWHERE:  # the default
            log.warning("the server is looked for on this machine itself; see --server", server=config.server)
        self.crew.start()

    def reload(self, read: Callable[[], ClientConfig]) -> None:
        """Takes over what can change while it runs: targets come and go, streams stay. SIGHUP asks for it."""
        try:
            new = read()
        except AeroError as error:
            reload_failed(error)
            return
        ground = self.ground
        config, changed, fixed = reloaded(ground.config, new)
        try:
            outlets = Outlets(config, os.environ, ground.outlets)
        except AeroError as error:
            reload_failed(error)
            return
        if config.auth != ground.config.auth:
            scalars = apart(stretch, config.auth, config.user)
            ground.password = Password(*scalars)  # for the next link
        compressed = ground.memory.packer is not None
        ground.config, ground.outlets = config, outlets
        if ground.offered & features.ZSTD and not compressed:
            log.info("a target wants to be compressed for the first time: that begins with the next link")
        reload_done(config, changed, fixed)
        self.registration.replace(config.targets)
        if self._identity is not None:
            self._identity.remember(target.name for target in config.targets)

    def stop(self) -> None:
        """Lets ``run`` end."""
        if not self.crew.stopping:
            self.crew.stopping = True
            self.outcome.set(0)

    def close(self) -> None:
        """Says goodbye to the server and ends all streams."""
        self.crew.close("the worker was stopped")
        self.registration.close()
        if self._identity is not None:
            self._identity.release()


def run(
    config: ClientConfig, started: Callable[[], None], read: Callable[[], ClientConfig], stretch: Stretch
) -> int:
    """Works until SIGTERM or SIGINT: 0; with --once until the first failure: 1, or 3 when the server said no.

    Calls ``started`` when it begins to dial; ``read`` gathers the options anew. ``stretch``: what stretches
    the first auth code, which may have begun. Raises HostError.
    """
    set_up(config)

    def announce(target: Target, port: int) -> None:
        host = app.ground.outlets.last.endpoint.host
        host = "localhost" if host in EVERYWHERE else host  # dialled so, it is this machine
        place = LocalPlace(Address(host, port), target.row)
        where = f"the HTTP mux of {host} only" if target.setting("auth") else str(place)
        names = target.setting("domain")
        own = {"domain": ", ".join(names)} if isinstance(names, tuple) else {}
        log.info("target mapped", target=target, at=where, **own)
        try:
            print(f"{target.name}@{target.where} -> {where}", flush=True)
        except OSError:
            pass  # nobody reads our output any more: the log has it

    app = WorkerApp(config, announce, stretch=stretch)
    on_signals(app.stop, partial(app.reload, read), partial(dump, app.ground, app.crew, app.services))
    app.start()
    started()
    try:
        code: int = app.outcome.get()
        return code
    except SecurityError as error:
        raise Rejected(Close.AUTH, str(error), final=True) from error
    except AeroError as error:
        if isinstance(error, Rejected) and error.final:
            raise
        print(
            f"aero: {logs.clean(error, logs.MESSAGE_CHARS)}", file=sys.stderr
        )  # the server may have written it
        return 1
    finally:
        app.close()
