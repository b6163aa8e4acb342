r"""What the server knows of our targets, kept equal to what we have: the difference is told, and answers come back.

    state \ event    told    mapped   refused   taken   due      lost
    UNTOLD           ASKED   -        -         -       -        -
    ASKED            -       MAPPED   REFUSED   LATER   -        UNTOLD
    MAPPED           -       MAPPED   REFUSED   LATER   -        -
    REFUSED          -       MAPPED   REFUSED   LATER   -        -
    LATER            -       MAPPED   REFUSED   LATER   UNTOLD   -

What is missing from the table changes nothing. To another worker's session every target is UNTOLD. A target that was
refused is not asked for again, unless it changes: then it is another one.

However often targets change, the server hears of it within its limits (PROTOCOL.md, "Limits"), by construction: nothing
is said while no link is up, or while the server has not processed what was said before or still owes answers to it; and
after a batch of n messages the next one waits n times REGISTER_EVERY_S. What changed in between is one difference.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Callable, NamedTuple, Protocol

from aero import logs
from aero.address import TCP, UDP, Target
from aero.core.control import (
    DENIED,
    TAKEN,
    Added,
    AddedTargets,
    Answer,
    Decline,
    Declined,
    RateLimits,
    Register,
    Seen,
    Unregister,
    Wanted,
    fitting,
)
from aero.core.stream import Stream
from aero.limits import Limits
from aero.net.loop import Loop, Watcher, stopped
from aero.worker.honoured import Shortfall, asked, guarded, judge
from aero.worker.targets import Service, Services

if TYPE_CHECKING:
    from aero.core.flows import Flow
    from aero.worker.checks import Checks

log = logs.get("target")

_LOOK_S = 0.25  # how often we look whether the server has processed what was said

UNTOLD, ASKED, MAPPED, REFUSED, LATER = range(5)
STATE_NAMES = ("untold", "asked", "mapped", "refused", "later")

TOLD, GOT_PORT, GOT_NO, GOT_TAKEN, DUE, LOST = "told", "mapped", "refused", "taken", "due", "lost"

_ANSWERED = {GOT_PORT: MAPPED, GOT_NO: REFUSED, GOT_TAKEN: LATER}
TRANSITIONS = {
    (UNTOLD, TOLD): ASKED,
    **{(state, event): to for state in (ASKED, MAPPED, REFUSED, LATER) for event, to in _ANSWERED.items()},
    (ASKED, LOST): UNTOLD,
    (LATER, DUE): UNTOLD,
}


class Receipt(Protocol):
    """Something that was said to the server."""

    @property
    def processed(self) -> bool:
        """True when the server has processed it."""


class Speaker(Protocol):
    """A link that is up, with its session."""

    @property
    def carries_datagrams(self) -> bool:
        """True where the server can carry UDP."""

    def say(self, said: Iterable[Register | Unregister | Seen | Declined]) -> Receipt:
        """Sends control messages."""


class _Batch(NamedTuple):
    """What was said last, and which ids the server is to forget."""

    receipt: Receipt
    retired: tuple[int, ...]


class Registration:
    """Tells the server of targets that come and go."""

    def __init__(self, loop: Loop, services: Services, announce: Callable[[Target, int], None]) -> None:
        """``announce(target, port)``: a target has a mapping, or another one than before."""
        self.speaker: Callable[[], Speaker | None] = lambda: None  # None: no link is up
        self._loop = loop
        self._services = services
        self._announce = announce
        self._states: dict[int, int] = {}  # by target id; what is not here is UNTOLD
        self._refusals: dict[int, str] = {}  # why, by target id: said in the log when it changes
        self._due: dict[int, float] = {}  # when to ask again, by target id
        self._retired: dict[int, None] = {}  # ids that the server may still have a mapping for, oldest first
        self._batch: _Batch | None = None  # what the server has perhaps not processed yet
        self._unanswered: set[int] = set()  # ids that the server was told and has not answered
        self._next_at = 0.0
        self._answers_until = 0.0  # for so long answers are waited for
        self._timer: Watcher | None = None
        self._checks: Checks | None = None  # made for the first target that has one
        self._own = services.targets
        self._added: tuple[Added, ...] = ()  # what the server asks for besides

    def state(self, service: Service) -> int:
        """Where a target stands."""
        return self._states.get(service.id, UNTOLD)

    def _move(self, number: int, event: str) -> bool:
        """Moves a target along the table; False where the event changes nothing."""
        state = TRANSITIONS.get((self._states.get(number, UNTOLD), event))
        if state is not None:
            self._states[number] = state
        return state is not None

    # What happens

    def replace(self, targets: tuple[Target, ...]) -> None:
        """These are our own targets from now on. What stays the same is not touched; streams that are open go on."""
        self._own = targets
        self._offer()

    def added(self, asked: AddedTargets) -> None:
        """The server asks for targets besides our own; those of before that are not there go."""
        self._added = asked.targets
        self._offer()

    def _offer(self) -> None:
        """What we have is our own targets, and those of the server's that may be."""
        targets: tuple[Target, ...] = ()
        declined: tuple[Decline, ...] = ()
        if self._added:
            from aero.worker.added import judge

            targets, declined = judge(self._services.allow, self._own, self._added)
        self._replace(self._own + targets)
        for each in declined:
            log.warning("the server asks for a target that is not offered", target=each.name, why=each.why)
        speaker = self.speaker()
        if declined and speaker is not None:
            speaker.say((Declined(declined),))

    def _replace(self, targets: tuple[Target, ...]) -> None:
        for service in self._services.replace(targets):
            if self._checks is not None:
                self._checks.forget(service.id)
            state = self._states.pop(service.id, UNTOLD)
            self._refusals.pop(service.id, None)
            self._due.pop(service.id, None)
            if state in (ASKED, MAPPED):
                self._retired[service.id] = None
        self.tell()

    def worker_begun(self) -> None:
        """The worker is new to the server, which knows none of its targets."""
        for each in (self._states, self._refusals, self._due, self._retired, self._unanswered):
            each.clear()
        self._batch = None
        self._next_at = 0.0
        self._services.limit(RateLimits())  # it will tell what holds for this one
        if self._added:  # and what it asks for
            self._added = ()
            self._services.replace(self._own)
        if self._checks is not None:
            self._checks.close()
        for service in self._services:
            service.port = 0
            service.withheld = guarded(service.target)
        self.tell()

    def session_lost(self) -> None:
        """A session is gone, another lives: what the server had not answered yet may have gone with it."""
        self._batch = None
        self._unanswered.clear()
        for number in list(self._states):
            self._move(number, LOST)
        self.tell()

    def link_up(self) -> None:
        """A link is up: what could not be said is said now."""
        self.tell()

    def visitor_came(self, stream: Stream, target_id: int, visitor: str) -> None:
        """A visitor wants to reach a target."""
        self._services.connect(stream, target_id, visitor)

    def flow_came(self, flow: Flow, target_id: int, visitor: str) -> None:
        """A visitor wants to reach a target by UDP."""
        self._services.converse(flow, target_id, visitor)

    def answered(self, answers: tuple[Answer, ...]) -> None:
        """The server's answers to a register message, or some of them."""
        for answer in answers:
            self._unanswered.discard(answer.id)
            service = self._services.get(answer.id)
            if service is not None:
                self._take(service, answer)
            elif answer.error and not self._states.get(answer.id) and answer.id not in self._retired:
                log.error("the server refused a target", target=answer.name, why=answer.text)
        self.tell()

    def _take(self, service: Service, answer: Answer) -> None:
        if answer.port:
            shortfall = judge(service.target, answer.options)
            if shortfall.guards:
                self._withhold(service, shortfall)
            elif self._move(service.id, GOT_PORT):
                service.withheld = False
                if "check" in answer.options:
                    self._look_after(service)
                if service.port != answer.port:
                    service.port = service.had = answer.port
                    self._refusals.pop(service.id, None)
                    self._announce(service.target, answer.port)
                    if shortfall.ignored:
                        ignored = ", ".join(shortfall.ignored)
                        log.warning(
                            "the server does not do what the target asks for",
                            target=service.target,
                            ignored=ignored,
                        )
            return
        taken = answer.error in (TAKEN, DENIED)  # whoever has the port may go, and rules may change
        if not self._move(service.id, GOT_TAKEN if taken else GOT_NO):
            return
        service.port = 0
        if taken:
            self._due[service.id] = monotonic() + Limits.REGISTER_RETRY_S
        if self._refusals.get(service.id) != answer.text:
            self._refusals[service.id] = answer.text
            again = {"retry_s": Limits.REGISTER_RETRY_S} if taken else {}
            log.error("the server refused a target", target=service.target, why=answer.text, **again)

    def _look_after(self, service: Service) -> None:
        if self._checks is None:
            from aero.worker.checks import Checks

            self._checks = Checks(self._loop, self._say_seen)
        self._checks.watch(service.id, service.target, service.way)

    def _say_seen(self, seen: Seen) -> None:
        speaker = self.speaker()
        if speaker is not None:
            speaker.say((seen,))

    def _withhold(self, service: Service, shortfall: Shortfall) -> None:
        """The server would let in whom the target's options keep out: the target is taken back."""
        if self._move(service.id, GOT_NO):
            service.withheld = True
            service.port = 0
            self._retired[service.id] = None
            log.error(
                "the target is not offered: the server does not honour what guards it, a newer one may",
                target=service.target,
                ignored=", ".join(shortfall.guards),
            )

    def limited(self, limits: RateLimits) -> None:
        """How fast we may send from now on."""
        self._services.limit(limits)

    # Saying it

    def tell(self) -> None:
        """Says what the server does not know yet, now or as soon as that may be."""
        stopped(self._timer)
        self._timer = None
        now = monotonic()
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            self._move(number, DUE)
        if self._batch is not None and self._batch.receipt.processed:
            for number in self._batch.retired:
                self._retired.pop(number, None)
            self._batch = None
        speaker = self.speaker()
        if speaker is not None and not speaker.carries_datagrams:
            self._keep_back()
        said = self._difference()
        if speaker is not None and said:
            answered = not self._unanswered or now >= self._answers_until
            if self._batch is None and answered and now >= self._next_at:
                self._say(speaker, said, now)
            else:
                self._again_at(max(self._next_at, now + _LOOK_S), now)
        elif self._due:
            self._again_at(min(self._due.values()), now)

    def _keep_back(self) -> None:
        """The server is older than UDP: it is not asked for what it cannot give."""
        for service in self._services:
            if service.target.proto == UDP and self._move(service.id, TOLD):
                self._move(service.id, GOT_NO)
                why = "the server carries no datagrams, a newer AeRO-proxy does"
                log.error("no UDP target on this link", target=service.target, why=why)

    def faulted(self, error: Exception) -> None:
        """An error of this program as something was to be said (net/faults.py): tries again later."""
        if self._timer is None:
            now = monotonic()
            self._again_at(now + Limits.REGISTER_RETRY_S, now)

    def _again_at(self, at: float, now: float) -> None:
        self._timer = self._loop.timer(max(at - now, 0.0))
        self._timer.start(self.tell)

    def _difference(self) -> list[Register | Unregister]:
        told = self._batch.retired if self._batch is not None else ()
        gone = tuple(number for number in self._retired if number not in told)
        new = [
            Wanted(
                each.id,
                each.target.name,
                str(each.target.place),
                each.target.remote,
                each.had,
                each.target.proto,
                options=asked(each.target),
                row=each.target.row,
            )
            for each in sorted(
                self._services, key=lambda each: each.target.proto != TCP
            )  # UDP prefers TCP's port
            if self.state(each) == UNTOLD
        ]
        return [*([Unregister(gone)] if gone else []), *(fitting(Register(tuple(new))) if new else [])]

    def _say(self, speaker: Speaker, said: list[Register | Unregister], now: float) -> None:
        retired: tuple[int, ...] = ()
        self._unanswered.clear()
        for message in said:
            if isinstance(message, Unregister):
                retired = message.ids
            else:
                for target in message.targets:
                    self._move(target.id, TOLD)
                    self._unanswered.add(target.id)
        self._batch = _Batch(speaker.say(said), retired)
        self._next_at = now + len(said) * Limits.REGISTER_EVERY_S
        self._answers_until = now + Limits.REGISTER_ANSWER_S
        if self._due or retired:
            self._again_at(self._next_at, now)

    def close(self) -> None:
        """Says nothing more."""
        stopped(self._timer)
        self._timer = None
        if self._checks is not None:
            self._checks.close()
