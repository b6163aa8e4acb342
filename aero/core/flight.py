"""How much may be on its way: enough to fill the path and little more, so that short messages find short queues.

What was written and is not acknowledged stands in our outbox, in two kernels and in the network's queues. All of it
beyond what the path itself holds only waits, and a message that comes now waits behind it. So the sender bounds it by

    bandwidth x (least round trip + slack)

and measures both by the peer's acknowledgements, as BBR does (Cardwell et al., "BBR: Congestion-Based Congestion
Control", ACM Queue 2016). The kernel's own congestion control stays in force below this bound, and decides about loss.

    phase    the bound                                  until
    START    doubles with every round that needed it    FULL_ROUNDS did not raise the rate, or a queue shows
    CRUISE   the formula; a quarter more in every       the least round trip is FRESH_S old, or the bandwidth
             PROBE_ROUNDS-th round, to see it grow      has fallen
    DRAIN    a quarter of what the path holds           a round trip was measured that began with so little

A round is a time in which at least one round trip was measured; its rate is what was acknowledged in it. A round in
which nobody waited for the bound says what the sender had, not what the path can: it may raise the bandwidth, and never
lowers it.

`Acks` is the receiver's half: an acknowledgement that is kept back looks like a longer path, and one for every record
costs more than it tells. Neither knows sockets or clocks: time is passed in, in seconds.
"""

from __future__ import annotations

from collections import deque

LEAST_BYTES = 16 * 1024  # 7 ms at 20 Mbit/s; below it the cost of a record outweighs the wait that it saves
FIRST_BYTES = 64 * 1024  # four times what TCP begins with (RFC 6928), and 26 ms at 20 Mbit/s
MOST_BYTES = 64 * 1024 * 1024  # more than a session may keep
DRAINED_BYTES = 4096  # the least while DRAIN lasts: something must be on its way to be measured
# The slack: what a scheduler, a sleeping core or an acknowledgement that was kept back may take without the path
# running dry. It is also the queue that bulk makes where the path is the bottleneck. More of it where the longest pause
# between two acknowledgements shows that the hosts are busy, or where a long path lets expect more jitter.
LEAST_SLACK_S, MOST_SLACK_S = 0.003, 0.012
# The same while light streams or datagrams share the link: each of their messages waits for it. Two of the pauses that
# the receiver makes between acknowledgements are the least that keeps a path busy.
LEAST_SHARED_S, MOST_SHARED_S = 0.001, 0.002
# On a slow path these are few packets, and it would run dry between them: 4 ms at 100 Mbit/s.
SHARED_BYTES = 48 * 1024
# On a fast one it is the hosts that are slow: so much is sealed, opened and copied in 0.3 ms, and whoever does it has a
# core that somebody waits for. Half of it at a time, so that both ends have something to do.
SHARED_MOST_BYTES = 128 * 1024
SHARED_STEP_BYTES = SHARED_MOST_BYTES // 2
# But where the hosts themselves take longer than that, less on the way is a lower rate, and that again less on the way.
# So the shared slack goes down step by step, and up again when the rate is below that part of what it was with more:
# what bulk keeps of its rate where the cores are what is short.
SHARED_RATE, FAST_SHARED_RATE = 0.8, 0.5
FAST_RATE = 250e6  # 2 Gbit/s: there it is the path that is short most often, above it the hosts
TIGHTER, LOOSER = 0.8, 1.5
MEAN = 0.2  # what the latest round counts in the mean rate, which is compared
# The same spiral threatens without light streams where a core comes later than the longest slack. So the bound follows
# a falling rate no faster than this: what the mean rate was counts half after a second, as the path may have shrunk.
USUAL_RATE, USUAL_HALVES_S = 0.8, 1.0
SHARED_S = 1.0  # how long a link counts as shared: people and programs pause between two calls
JITTER, MOST_JITTER_S = 8, 0.009  # an eighth of the round trip, up to so much
PAUSE_FADES = 0.75  # with each round
# A bulk stream goes on when so much time's worth is free, and sends twice that at once: no crumbs, and no lumps whose
# last byte comes later than the slack allows for.
STEP_S = 0.0005
LEAST_STEP_BYTES, FIRST_STEP_BYTES, MOST_STEP_BYTES = 2048, 16 * 1024, 128 * 1024
# A round lasts so long at least: over less, the jitter of two schedulers is as large as the time that is measured.
ROUND_S = 0.010
START_ROUND_S = 0.002  # while the bound only grows, a wrong measure does little harm
# The bandwidth is the best of so many rounds: one that was disturbed does not count, and what lasts is followed soon.
RATES = 3
FULL_ROUNDS = 3  # one without growth could be an accident
GROWTH = 1.25
PROBE_ROUNDS = 8
FRESH_S = 10.0  # a route may change, and the least round trip may have been measured over somebody's queue
# The bandwidth has fallen to this part of what it was at the last measure: perhaps the path has become longer, and the
# bound starves it. CALM_S lies between two measures for that reason.
FALLEN = 0.5
CALM_S = 2.0
DRAINED = 0.25  # of what the path holds: little enough to see a path that has become four times as short
DRAIN_S = 0.1  # and four round trips: then it ends without a measure

START, CRUISE, DRAIN = "start", "cruise", "drain"


class Flight:
    """The sender's half; one for each link."""

    __slots__ = (
        "_best",
        "_drain_until",
        "_dry",
        "_from",
        "_from_at",
        "_full",
        "_heard_at",
        "_mean_rate",
        "_measured_at",
        "_measured_rate",
        "_pause_s",
        "_probe",
        "_probe_at",
        "_probe_small",
        "_rates",
        "_round_trips",
        "_rounds",
        "_shared_until",
        "_tight_s",
        "_usual_at",
        "_usual_rate",
        "bound_bytes",
        "held_back",
        "lately_shared",
        "phase",
        "rate",
        "round_trip_s",
        "shared",
        "step_bytes",
    )

    def __init__(self, now: float, round_trip_s: float = 0.0) -> None:
        """``round_trip_s``: what is known of the path already, by a ping; 0 for nothing."""
        self.phase = START
        self.bound_bytes = FIRST_BYTES
        self.step_bytes = FIRST_STEP_BYTES  # so much must be free before bulk goes on
        self.held_back = False  # somebody waited for the bound in this round: the session says so
        self.shared = False  # datagrams or a light stream left in this round: who sends them says so
        self.lately_shared = (
            False  # as a round of the last SHARED_S said: bulk leaves others their turn sooner
        )
        self.rate = 0.0  # bytes a second; 0 before the first round
        self.round_trip_s = round_trip_s  # the least of late; 0 for none
        self._rates: deque[float] = deque(maxlen=RATES)
        self._probe = 0  # the position whose acknowledgement measures a round trip; 0: none is under way
        self._probe_at = 0.0
        self._probe_small = False  # it left with no more on its way than the bound
        self._dry = False  # all that was sent is acknowledged
        self._from = 0  # what was acknowledged when the round began, and when
        self._from_at = 0.0  # 0: no round is under way
        self._heard_at = 0.0  # the last acknowledgement in this round
        self._pause_s = 0.0  # the longest between two of late
        self._round_trips = 0  # measured in this round
        self._best = 0.0  # the rate that START has to beat
        self._full = 0
        self._rounds = 0  # in CRUISE
        self._shared_until = 0.0  # bulk and light streams were seen in one round, SHARED_S before
        self._tight_s = MOST_SLACK_S  # the slack while it is shared, and the rate to measure it by
        self._mean_rate = self._usual_rate = 0.0
        self._usual_at = now
        self._drain_until = 0.0
        self._measured_at = now  # when the least round trip was measured, and the bandwidth at that time
        self._measured_rate = 0.0

    def sent(self, position: int, acked: int, now: float) -> None:
        """Everything up to ``position`` has left, of which all below ``acked`` is acknowledged."""
        if self._dry:
            self._dry = False
            # The sender had nothing more: the time until now is nobody's.
            if now - self._heard_at > LEAST_SLACK_S:
                self._from_at, self._round_trips, self.held_back = 0.0, 0, False
        if not self._probe:
            self._probe, self._probe_at = position, now
            # Headers and short messages come on top of the bound.
            self._probe_small = position - acked <= 2 * self.bound_bytes
            if not self._from_at:
                self._from, self._from_at = acked, now
                self._heard_at = now

    def acknowledged(self, position: int, sent: int, now: float) -> None:
        """The peer has everything below ``position`` of what was ``sent``; may change ``bound_bytes``."""
        if self._probe and position >= self._probe:
            self._measure(now - self._probe_at, now)
            self._probe = 0
        if self._from_at:
            lasted = now - self._from_at
            self._pause_s = max(self._pause_s, min(now - self._heard_at, MOST_SLACK_S))
            self._heard_at = now
            self._dry = position == sent
            if self._round_trips and lasted >= (START_ROUND_S if self.phase == START else ROUND_S):
                self._end_round((position - self._from) / lasted, now)
                self._from, self._from_at = position, now

    def see_shared(self, now: float) -> bool:
        """Whether light streams have sent of late; what a round asks, and whoever acknowledges the peer's bulk."""
        if self.shared:
            self._shared_until = now + SHARED_S
            self.shared = False
        self.lately_shared = now < self._shared_until
        return self.lately_shared

    def heard(self, round_trip_s: float, now: float) -> None:
        """A ping was answered after so long, perhaps while nothing else was on its way."""
        if not self.round_trip_s or round_trip_s < self.round_trip_s:
            self._take(round_trip_s, now)

    def _measure(self, round_trip_s: float, now: float) -> None:
        """One round trip."""
        self._round_trips += 1
        if self.phase == DRAIN and self._probe_small:
            self.phase = CRUISE
            self._take(round_trip_s, now)
            self._set(1.0, now)
        elif not self.round_trip_s or round_trip_s < self.round_trip_s:
            self._take(round_trip_s, now)
        elif (
            self.phase == START
            and self.held_back
            and round_trip_s > 2 * self.round_trip_s + 2 * LEAST_SLACK_S
        ):
            self._full = FULL_ROUNDS  # that much more than the path alone takes: a queue

    def _take(self, round_trip_s: float, now: float) -> None:
        self.round_trip_s = round_trip_s
        self._measured_at, self._measured_rate = now, self.rate

    def _end_round(self, rate: float, now: float) -> None:
        held_back, self.held_back = self.held_back, False
        self.see_shared(now)
        self._mean_rate += MEAN * (rate - self._mean_rate)
        self._usual_rate *= 0.5 ** ((now - self._usual_at) / USUAL_HALVES_S)
        self._usual_rate, self._usual_at = max(self._mean_rate, self._usual_rate), now
        self._round_trips = 0
        self._pause_s *= PAUSE_FADES
        if self.phase == DRAIN:
            if now > self._drain_until:  # others send so much that it never became little
                self.phase, self._measured_at = CRUISE, now
                self._set(1.0, now)
            return
        if held_back or rate > self.rate:
            self._rates.append(rate)
            self.rate = max(self._rates)
        if self.phase == START:
            self._grow(held_back, now)
        else:
            self._cruise(now)

    def _grow(self, held_back: bool, now: float) -> None:
        if not held_back:
            if self.lately_shared:
                self.bound_bytes = min(self.bound_bytes, max(self._holds(1.0), FIRST_BYTES))
            return  # the bound was no hindrance
        if self.rate >= GROWTH * self._best:
            self._best = self.rate
        else:
            self._full += 1
        if self._full >= FULL_ROUNDS:
            self.phase, self._rounds = CRUISE, 0
            self._set(1.0, now)
        elif self._best == self.rate:
            self.bound_bytes = min(2 * self.bound_bytes, MOST_BYTES)

    def _cruise(self, now: float) -> None:
        self._rounds += 1
        age = now - self._measured_at
        self._measured_rate = max(self._measured_rate, self.rate)
        if age > FRESH_S or (age > CALM_S and self.rate < FALLEN * self._measured_rate):
            self.phase = DRAIN
            self._drain_until = now + DRAIN_S + 4 * self.round_trip_s
            self._probe = 0  # it left with too much before it
            self.bound_bytes = max(int(DRAINED * self.rate * self.round_trip_s), DRAINED_BYTES)
            self.step_bytes = min(self.step_bytes, self.bound_bytes >> 1)
        else:
            self._set(GROWTH if self._rounds % PROBE_ROUNDS == 0 else 1.0, now)

    def _set(self, gain: float, now: float) -> None:
        self.bound_bytes = min(max(self._holds(gain), LEAST_BYTES), MOST_BYTES)
        step_s, most = STEP_S, MOST_STEP_BYTES
        if self.lately_shared:
            step_s, most = STEP_S / 2, SHARED_STEP_BYTES
        self.step_bytes = min(max(int(self._followed_rate * step_s), LEAST_STEP_BYTES), most)

    def _holds(self, gain: float) -> int:
        """What the path holds and the slack, in bytes."""
        slack_s = min(LEAST_SLACK_S + self._pause_s + self.round_trip_s / JITTER, MOST_SLACK_S)
        if self.lately_shared:
            if self._mean_rate < self._kept_part * self._usual_rate:
                self._tight_s = min(LOOSER * self._tight_s, MOST_SLACK_S)
            else:
                rate = max(self.rate, 1.0)
                least_s = min(LEAST_SHARED_S + self._pause_s, MOST_SHARED_S, SHARED_MOST_BYTES / rate)
                least_s = max(least_s, SHARED_BYTES / rate)
                self._tight_s = max(TIGHTER * self._tight_s, least_s)
            slack_s = min(slack_s, self._tight_s + min(self.round_trip_s / JITTER, MOST_JITTER_S))
        else:
            self._tight_s = slack_s
        return int(gain * self._followed_rate * (self.round_trip_s + slack_s))

    @property
    def _followed_rate(self) -> float:
        """The bandwidth, as far as it may have fallen."""
        return max(self.rate, (self._kept_part if self.lately_shared else USUAL_RATE) * self._usual_rate)

    @property
    def _kept_part(self) -> float:
        """The part of its usual rate that bulk keeps beside light streams."""
        return FAST_SHARED_RATE if self._usual_rate > FAST_RATE else SHARED_RATE


class _Unbounded(Flight):
    """For sequences that are not acknowledged."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(0.0)
        self.bound_bytes, self.step_bytes = MOST_BYTES, MOST_STEP_BYTES

    def sent(self, position: int, acked: int, now: float) -> None:
        """Nothing is measured."""


UNBOUNDED = _Unbounded()

# Acknowledge at the latest after this many bytes or this long, whichever comes first: at 400 MB/s that is 800 small
# records a second, and the peer keeps about 1 MiB beside what is on its way for what is not acknowledged.
ACK_BYTES = 512 * 1024
ACK_DELAY_S = 0.1
# Beside light streams the sender has half a millisecond's worth on its way at 2 Gbit/s and above, and waits for us.
SHARED_ACK_BYTES = SHARED_MOST_BYTES // 2
# A frame of this size is bulk: its sender measures the path by what is acknowledged. No bulk stream sends less at once
# (LEAST_STEP_BYTES), while many small messages, which need no acknowledgement soon, share large records.
BULK_BYTES = LEAST_STEP_BYTES
# Between two acknowledgements of bulk: within the slack, and a thousand a second cost little.
BULK_ACK_S = 0.001
BULK_DELAY_S = 0.002  # the last bytes of a transfer, or of what its bound allowed


class Acks:
    """The receiver's half: when to acknowledge."""

    __slots__ = ("_said_at", "at", "bulk", "position")

    def __init__(self) -> None:
        """Begins with nothing received and nothing to acknowledge."""
        self.position = 0  # what we have acknowledged of the peer's sequence
        self.at = 0.0  # when to acknowledge at the latest; 0: nothing to acknowledge
        self.bulk = False  # since the last acknowledgement a record of bulk has come
        self._said_at = 0.0

    def received(self, position: int, bulk: bool, shared: bool, now: float) -> bool:
        """Everything below ``position`` has come, at last ``bulk`` or not; True when an acknowledgement is due.

        ``shared``: beside light streams, so the sender has little on its way.
        """
        self.bulk = bulk = bulk or self.bulk
        unsaid = position - self.position
        if unsaid >= (SHARED_ACK_BYTES if shared else ACK_BYTES) or (
            bulk and now - self._said_at >= BULK_ACK_S
        ):
            return True
        due = now + (BULK_DELAY_S if bulk else ACK_DELAY_S)
        if not self.at or due < self.at:
            self.at = due
        return False

    def said(self, position: int, now: float) -> None:
        """We have acknowledged up to ``position``."""
        self.position, self.at, self.bulk, self._said_at = position, 0.0, False, now
