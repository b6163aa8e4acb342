"""The worker's life: lanes to the server, targets behind it, until told to stop."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, Callable

import gevent
from gevent.event import AsyncResult, Event

from aero import __version__, logs
from aero.address import EVERYWHERE, Address, Target
from aero.config.roles import ClientConfig, reloaded
from aero.core import aead, spake2
from aero.core.codes import Close
from aero.core.messages import Answer
from aero.core.outbox import BlockPool
from aero.core.session import SessionLimits
from aero.errors import AeroError, Rejected, SecurityError
from aero.host.run import on_signals, set_up
from aero.limits import Limits
from aero.net.loop import event_loop
from aero.worker.dump import dump
from aero.worker.identity import identity
from aero.worker.lane import Lane
from aero.worker.targets import Services

log = logs.get("worker")

GOODBYE_S = 1.0  # what the server gets to hear that we leave


class WorkerApp:
    """Everything that one worker process has."""

    def __init__(self, config: ClientConfig, announce: Callable[[Target, int], None]) -> None:
        """``announce(target, port)``: a target can be reached at the server's ``port``. Raises HostError."""
        self.config = config
        self.backend = aead.choose(config.aead)
        self.password = spake2.Password(spake2.stretch(config.auth, ""))
        self.identity = identity(config)
        self.pool = BlockPool(Limits.KEPT_BLOCKS, Limits.FREE_BLOCKS)
        self.session_limits = SessionLimits()
        self.loop = event_loop()
        self.services = Services(self.loop, config.targets, announce)
        self.stopping = False
        self.cid = ""
        self.outcome: AsyncResult[int] = AsyncResult()
        self.lanes = [Lane(self, number) for number in range(1, config.pool + 1)]
        self._first_joined = Event()
        self._greenlets: list[gevent.Greenlet] = []
        self._again: Any = None  # timer that registers once more

    def start(self) -> None:
        """Begins to dial."""
        log.info(
            f"AeRO-proxy {__version__} worker",
            server=self.config.server,
            tag=self.config.tag,
            host=self.config.host,
            aead=self.backend.description,
            auth="set" if self.config.auth else "none",
        )
        if not self.config.auth:
            log.warning(
                "no auth code is set: the link is encrypted, but nothing proves who the server is; see --auth"
            )
        for lane in self.lanes:
            self._greenlets.append(gevent.spawn(self._run_lane, lane))

    def _run_lane(self, lane: Lane) -> None:
        try:
            lane.run()
        except (
            Exception
        ) as error:  # our own bug ends the process too: a lane that is missing would tell nobody
            self.outcome.set_exception(error)

    def wait_turn(self, lane: Lane, delay_s: float) -> None:
        """Blocks a lane until it may dial: the delay, and for all but one lane until there is a worker to join."""
        lane.hurry.clear()
        gevent.sleep(min(delay_s, Limits.RETRY_FIRST_S))
        lane.hurry.wait(max(delay_s - Limits.RETRY_FIRST_S, 0.0))
        if lane is not self.lanes[0] and lane.session is None:
            self._first_joined.wait()

    def reached(self, lane: Lane) -> None:
        """A lane has reached a server that was away: those that wait long for their next try need not."""
        for other in self.lanes:
            if other is not lane:
                other.hurry.set()

    def sister(self, lane: Lane) -> Lane | None:
        """Another lane whose session lives."""
        return next((other for other in self.lanes if other is not lane and other.session is not None), None)

    def joined(self, lane: Lane, cid: str) -> None:
        """A lane has a new session; registers the targets when the worker is new to the server."""
        if cid != self.cid:
            self.cid = cid
            self.services.forget_mappings()
            self._register(lane)
        self._first_joined.set()

    def session_lost(self, lane: Lane) -> None:
        """A lane's session is gone for good."""
        sister = self.sister(lane)
        if sister is None:
            self.cid = ""
            self._first_joined.clear()
        else:
            self._register(sister)  # what the server had not answered yet went down with the session

    def session_gone(self, session_id: str, text: str) -> None:
        """The server does not know this session any more, whichever lane has it."""
        for lane in self.lanes:
            if lane.session is not None and lane.session_id == session_id:
                lane.gone(text)

    def _register(self, lane: Lane | None) -> None:
        if self._again is not None:
            self._again.stop()
            self._again = None
        if lane is None:
            lane = next((each for each in self.lanes if each.session is not None), None)
        if lane is not None and lane.session is not None:
            for message in self.services.messages():
                lane.session.control(message)

    def registered(self, answers: tuple[Answer, ...]) -> None:
        """The server's answer to a register message."""
        if not self.services.registered(answers) and self._again is None:
            self._again = self.loop.timer(Limits.REGISTER_RETRY_S)
            self._again.start(self._register, None)

    def reload(self, read: Callable[[], ClientConfig]) -> None:
        """Takes over what can change while it runs: targets come and go, streams stay. SIGHUP asks for it."""
        try:
            new = read()
        except AeroError as error:
            log.error("the configuration cannot be read again, the old one stays", why=error)
            return
        config, fixed = reloaded(self.config, new)
        if config.auth != self.config.auth:
            code = gevent.get_hub().threadpool.apply(spake2.stretch, (config.auth, ""))
            self.password = spake2.Password(code)  # for the next link
        self.config = config
        logs.setup(config.log, config.log_format, config.log_size, config.debug)
        log.info("configuration read again", targets=len(config.targets))
        if fixed:
            log.warning("these need a restart", options=", ".join(fixed))
        self.services.replace(config.targets)
        self._register(None)

    def stop(self) -> None:
        """Says goodbye on every link and ends ``run``."""
        if not self.stopping:
            self.stopping = True
            self.outcome.set(0)

    def close(self) -> None:
        """Ends all lanes; targets see resets, not ends that look complete."""
        links = [lane.link for lane in self.lanes if lane.link is not None]
        for link in links:
            link.close(Close.DONE, "the worker was stopped")
        with gevent.Timeout(GOODBYE_S, False):
            gevent.joinall([each for each, lane in zip(self._greenlets, self.lanes) if lane.link is not None])
        gevent.killall(self._greenlets)
        for lane in self.lanes:
            lane.end_session("the worker was stopped")
        if self._again is not None:
            self._again.stop()


def run(config: ClientConfig, started: Callable[[], None], read: Callable[[], ClientConfig]) -> int:
    """Works until SIGTERM or SIGINT: 0; with --once until the first failure: 1, or 3 when the server said no.

    Calls ``started`` when it begins to dial; ``read`` gathers the options anew. Raises HostError.
    """
    set_up(config)

    def announce(target: Target, port: int) -> None:
        here = config.server.host in EVERYWHERE  # dialled so, it is this machine
        where = Address("localhost" if here else config.server.host, port)
        log.info("target has its address", target=target, at=where)
        try:
            print(f"{target.name}@{target.address} -> {where}", flush=True)
        except OSError:
            pass  # nobody reads our output any more: the log has it

    app = WorkerApp(config, announce)
    on_signals(app.stop, partial(app.reload, read), partial(dump, app))
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
        print(f"aero: {error}", file=sys.stderr)
        return 1
    finally:
        app.stopping = True
        app.close()
