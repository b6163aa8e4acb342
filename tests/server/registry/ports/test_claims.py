"""Who may have a leased port: the table, and what no order of events may ever lead to."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aero.server.registry.ports.claims import (
    SILENCE_S,
    TABLE,
    Holder,
    Kin,
    State,
    Times,
    Verdict,
    judge,
    kin,
    state,
)
from aero.server.store.leases import Lease, Owner

DAY = 24 * 3600
OWNER = Owner("", "nas", "attic", "web")
LEASE = Lease(OWNER, 0, 20_000, "i", "192.0.2.1", 1_000_000, 5000)
START = 900_000.0


def names(of: type) -> list[str]:
    return [value for name, value in vars(of).items() if name.isupper()]


def times(now: float, started: float = START) -> Times:
    return Times(now, started, 30 * DAY)


def test_the_table_speaks_of_what_there_is_only() -> None:
    for (kinship, condition), verdict in TABLE.items():
        assert kinship in names(Kin) and condition in names(State) and verdict in names(Verdict)


@pytest.mark.parametrize(("kinship", "condition"), list(itertools.product(names(Kin), names(State))))
def test_what_the_table_promises(kinship: str, condition: str) -> None:
    verdict = TABLE.get((kinship, condition), Verdict.REFUSE)
    if condition == State.ALIVE:
        assert verdict == Verdict.REFUSE, "nobody who is there loses a port"
    if kinship == Kin.OTHER and condition != State.UNUSED:
        assert verdict == Verdict.REFUSE
    if kinship == Kin.MOVED and condition != State.UNUSED:
        assert verdict in (Verdict.REFUSE, Verdict.TELL), "people hear of it"
    if kinship == Kin.SELF and condition not in (State.LINKED, State.ALIVE):
        assert verdict == Verdict.GIVE, "whoever comes back has its port"
    if condition == State.LINKED:
        assert verdict in (Verdict.ASK, Verdict.REFUSE), "a link that is up is asked first"


@pytest.mark.parametrize(
    ("owner", "identity", "expected"),
    [
        (OWNER, "i", Kin.SELF),
        (OWNER, "j", Kin.REBORN),
        (OWNER._replace(host="cellar"), "i", Kin.MOVED),
        (OWNER._replace(host="cellar"), "j", Kin.MOVED),
        (OWNER._replace(name="ssh"), "i", Kin.OTHER),
        (OWNER._replace(tag="other"), "i", Kin.OTHER),
        (OWNER._replace(user="other"), "i", Kin.OTHER),
        (OWNER._replace(proto="udp"), "i", Kin.OTHER),
    ],
)
def test_what_a_claimant_is_to_the_lease(owner: Owner, identity: str, expected: str) -> None:
    assert kin(LEASE, owner, identity) == expected


@pytest.mark.parametrize(
    ("now", "started", "expected"),
    [
        (1_000_001, START, State.ABSENT),
        (1_000_000 + SILENCE_S - 1, START, State.ABSENT),
        (1_000_000 + SILENCE_S, START, State.SILENT),
        (1_000_000 + 30 * DAY, START, State.UNUSED),
        (1_000_500, 1_000_450, State.UNSEEN),
        (1_000_450 + SILENCE_S, 1_000_450, State.SILENT),
        (1_000_000 + 30 * DAY, 1_000_000 + 30 * DAY, State.UNUSED),
        (5.0, START, State.ABSENT),
    ],
)
def test_how_an_owner_is_that_holds_nothing(now: float, started: float, expected: str) -> None:
    assert state(LEASE, None, times(now, started)) == expected


def test_how_a_holder_is() -> None:
    now = times(1_000_000 + 90 * DAY)
    assert state(LEASE, Holder(linked=True, alive=True), now) == State.ALIVE
    assert state(LEASE, Holder(linked=True, alive=False), now) == State.LINKED
    assert state(LEASE, Holder(linked=False, alive=False), now) == State.UNLINKED


words = st.sampled_from(["", "a", "b"])
owners = st.builds(Owner, words, words, words, words, st.sampled_from(["tcp", "udp"]))
holders = st.none() | st.builds(Holder, st.booleans(), st.booleans())
seconds = st.integers(0, 60 * DAY)


@given(owners, words, owners, words, holders, seconds, seconds, seconds)
def test_no_stranger_gets_the_port_of_an_absent_worker(
    mine: Owner,
    identity: str,
    theirs: Owner,
    other: str,
    holder: Holder | None,
    used: int,
    start: int,
    now: int,
) -> None:
    lease = Lease(mine, 0, 20_000, identity, "", used, 0)
    verdict = judge(lease, holder, theirs, other, Times(now, start, 30 * DAY))
    if holder is not None and (holder.alive or holder.linked):
        assert verdict in (Verdict.REFUSE, Verdict.ASK)
    if verdict == Verdict.REFUSE or now - used >= 30 * DAY:
        return
    assert (mine.user, mine.tag, mine.name, mine.proto) == (
        theirs.user,
        theirs.tag,
        theirs.name,
        theirs.proto,
    )
    if mine.host != theirs.host:
        assert verdict == Verdict.TELL and now - max(used, start) >= SILENCE_S
    elif identity != other and holder is None:
        assert used > start or now - start >= SILENCE_S, "a restart of the server is no race for ports"


@given(owners, words, st.none() | st.just(Holder(False, False)), seconds, seconds, seconds)
def test_whoever_comes_back_gets_its_port(
    owner: Owner, identity: str, holder: Holder | None, used: int, start: int, now: int
) -> None:
    lease = Lease(owner, 0, 20_000, identity, "", used, 0)
    assert judge(lease, holder, owner, identity, Times(now, start, 30 * DAY)) == Verdict.GIVE
