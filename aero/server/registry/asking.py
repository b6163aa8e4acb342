"""A hook that is asked before a worker or a target is let in: POST with JSON, and its answer counts.

It has ASK_S; who has to wait for a place waits in a line of bounded length. Where nobody answers clearly, what
``--hook-fails`` says counts: closed keeps out who is new, open lets him in. Who is here, and who comes back to an open
session, is never asked for. Each question blocks the greenlet of the one that it is about, and nobody else.
"""

from __future__ import annotations

import json
from time import time
from typing import Any

from aero import logs
from aero.errors import AeroError, ConfigError
from aero.net.semaphore import Semaphore
from aero.server.policy.permission import Permission, read
from aero.server.watch.hooks import rfc3339
from aero.server.watch.posting import Poster, without_secrets

log = logs.get("hook")

#: How long the hook has for an answer.
ASK_S = 2.0
#: Questions under way at once, each a connection, and those that wait for a place. With a hook that never answers the
#: last in line hears so after 8 s: a worker waits longer than that.
AT_ONCE = 32
WAITING = 3 * AT_ONCE


class AskedHook:
    """The hook that is asked."""

    def __init__(self, url: str, poster: Poster, fails_open: bool) -> None:
        """``fails_open``: who is new is let in where the hook gives no clear answer."""
        self._url = url
        self._poster = poster
        self._fails_open = fails_open
        self._places = Semaphore(AT_ONCE)
        self._waiting = 0
        self._complained = False

    def ask(self, what: str, **about: Any) -> Permission:
        """Whether it may be let in; ``what``: worker or target. Blocks the greenlet; never raises."""
        body = json.dumps({"ask": what, "at": rfc3339(time()), **about}).encode()
        try:
            if self._waiting >= WAITING:
                raise ConfigError("too many wait to be asked for")
            self._waiting += 1
            try:
                self._places.acquire()
            finally:
                self._waiting -= 1
            try:
                posted = self._poster.post(self._url, body, ASK_S)
            finally:
                self._places.release()
            if not posted.thanks:
                raise ConfigError(f"it answered {posted.status}")
            permission = read(posted.body)
        except AeroError as error:
            return self._unclear(error)
        if self._complained:
            self._complained = False
            log.info("the hook answers again", hook=without_secrets(self._url))
        return (
            permission
            if permission.allowed or permission.why
            else permission._replace(why="the server's hook says no")
        )

    def _unclear(self, why: AeroError) -> Permission:
        if not self._complained:
            self._complained = True
            outcome = "everybody is let in" if self._fails_open else "nobody new is let in"
            log.warning(
                f"the hook gives no clear answer, {outcome} until it does",
                hook=without_secrets(self._url), why=why,
            )  # fmt: skip
        return Permission(
            self._fails_open, "" if self._fails_open else "the server cannot ask whether it may"
        )
