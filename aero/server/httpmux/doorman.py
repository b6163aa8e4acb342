"""Basic authentication (RFC 7617) for targets with ``auth=``: whether a name and a password are right.

A password that was right is known again by a keyed digest of what was said, so that a request after the first costs a
look into a table. One that is new is looked at in a thread, one at a time, since its hash may take a third of a second.
Who guesses waits longer for each answer (policy/penalties.py), and no address has many under way; nobody is locked out,
since others may stand behind the same address, and those whose password is known never wait.
"""

from __future__ import annotations

import binascii
import os
import re
from collections import Counter, OrderedDict, deque
from functools import partial
from hashlib import blake2b
from time import monotonic
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from aero.limits import Limits
from aero.net.loop import Loop, Watcher, stopped
from aero.server.policy.origin import is_near, key_of
from aero.server.policy.passwords import Logins
from aero.server.policy.penalties import Penalties

if TYPE_CHECKING:
    from aero.net.threads import Threads

_FIELD = re.compile(rb"^authorization: ?([^\r\n]*)\r\n", re.I | re.M)
#: Base64 of a name and a password of some 700 characters, with its padding.
_BASIC = re.compile(rb"basic +((?:[A-Za-z0-9+/]{4}){0,256}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)", re.I)
PASSWORD_BYTES = 256


class Credentials(NamedTuple):
    """A name and a password, as a visitor wrote them."""

    user: bytes
    password: bytes


def parse_basic(kept: bytes) -> Credentials | None:
    """What the header lines of a request say in Authorization; None where that is not exactly one name and password."""
    fields = _FIELD.findall(kept)
    match = _BASIC.fullmatch(fields[0].strip(b" \t")) if len(fields) == 1 else None
    if match is None:
        return None
    user, colon, password = binascii.a2b_base64(match[1]).partition(b":")
    return Credentials(user, password) if colon and len(password) <= PASSWORD_BYTES else None


class Trial:
    """A name and a password that are being looked at. ``right``: None until that is known."""

    __slots__ = ("_waiting", "logins", "key", "mark", "right", "said", "timer")

    def __init__(self, logins: Logins, said: Credentials, mark: bytes, key: bytes) -> None:
        """``mark``: what is remembered of it; ``key``: whose guess it counts as."""
        self.logins = logins
        self.said = said
        self.mark = mark
        self.key = key
        self.right: bool | None = None
        self.timer: Watcher | None = None  # until it is its turn
        self._waiting: list[Callable[[], None]] = []

    def wait(self, then: Callable[[], None]) -> None:
        """Calls ``then()`` from the loop once it is known, unless ``leave`` comes first."""
        self._waiting.append(then)

    def leave(self, then: Callable[[], None]) -> None:
        """Nobody waits there any more; harmless for who did not."""
        if then in self._waiting:
            self._waiting.remove(then)

    def known(self, right: bool) -> None:
        """Tells all that wait."""
        self.right = right
        waiting, self._waiting = self._waiting, []
        for then in waiting:
            then()


#: What is said of a request in place of a trial.
LET_IN, LOGIN, BUSY = "let in", "login", "busy"


class Doorman:
    """All that is known of visitors' passwords, and all that is being found out."""

    def __init__(self, loop: Loop, broken: Callable[[Exception], None]) -> None:
        """``broken`` is told of faults of this program's. Starts no thread before the first password."""
        self._loop = loop
        self._broken = broken
        self._secret = os.urandom(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._penalties = Penalties()
        self._asked: dict[bytes, Trial] = {}  # by mark
        self._held: Counter[bytes] = Counter()  # of those, by whose they are
        self._line: deque[Trial] = deque()
        self._pool: Threads | None = None
        self._busy = False  # the thread is

    def ask(self, logins: Logins, kept: bytes, ip: str, before: Trial | None) -> str | Trial:
        """LET_IN, LOGIN for who has to say who he is, BUSY where too many passwords are being looked at, or what to
        wait for. ``kept``: the request's header lines; ``before``: what was waited for, for the same request.
        """
        said = parse_basic(kept)
        if said is None:
            return LOGIN
        digest = blake2b(logins.mark + b"%d:" % len(said.user), digest_size=16, key=self._secret)
        digest.update(said.user + said.password)
        mark = digest.digest()
        if mark in self._known:
            self._known.move_to_end(mark)
            return LET_IN
        if before is not None and before.mark == mark and before.right is not None:
            return LET_IN if before.right else LOGIN
        trial = self._asked.get(mark)
        if trial is None:
            key = key_of(ip)
            most = Limits.PASSWORDS if is_near(ip) else Limits.PASSWORDS_PER_ADDRESS
            if len(self._asked) >= Limits.PASSWORDS or self._held[key] >= most:
                return BUSY
            trial = self._begin(Trial(logins, said, mark, key))
        return trial

    def _begin(self, trial: Trial) -> Trial:
        self._asked[trial.mark] = trial
        self._held[trial.key] += 1
        delay_s = self._penalties.delay_s(trial.key, monotonic())
        if delay_s:
            trial.timer = self._loop.timer(delay_s)
            trial.timer.start(partial(self._line_up, trial))
        else:
            self._line_up(trial)
        return trial

    def _line_up(self, trial: Trial) -> None:
        stopped(trial.timer)
        trial.timer = None
        self._line.append(trial)
        self._next()

    def _next(self) -> None:
        if self._busy or not self._line:
            return
        trial = self._line.popleft()
        if self._pool is None:
            from aero.net.threads import Threads

            self._pool = Threads(1)
        self._busy = True
        self._pool.spawn(trial.logins.knows, *trial.said).rawlink(partial(self._found, trial))

    def _found(self, trial: Trial, result: Any) -> None:
        """The thread is done; in the loop."""
        self._busy = False
        right = False
        try:
            right = bool(result.get(block=False))
        except Exception as error:
            self._broken(error)
        self._over(trial, right)
        self._next()

    def _over(self, trial: Trial, right: bool) -> None:
        if self._asked.pop(trial.mark, None) is None:
            return  # all is closed
        self._held[trial.key] -= 1
        if not self._held[trial.key]:
            del self._held[trial.key]
        if right:
            self._known[trial.mark] = None
            if len(self._known) > Limits.PASSWORDS_KNOWN:
                self._known.popitem(last=False)
        else:
            self._penalties.failed(trial.key, monotonic())
        try:
            trial.known(right)
        except Exception as error:
            self._broken(error)

    def close(self) -> None:
        """Nobody waits any more."""
        for trial in self._asked.values():
            stopped(trial.timer)
        self._asked.clear()
        self._line.clear()
        if self._pool is not None:
            self._pool.close()
