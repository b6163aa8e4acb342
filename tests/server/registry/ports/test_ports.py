"""Which port a mapping gets, and gets again; what is told where a port cannot be had, or has to be waited for."""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.errors import PortError
from aero.limits import Limits
from aero.server.registry.ports import ports as module
from aero.server.registry.ports.claims import SILENCE_S
from aero.server.registry.ports.grants import Claim, Grant, Wait
from aero.server.registry.ports.ports import TRIES
from aero.server.store.leases import Owner
from tests.server.registry.ports.lab import DAY, HIGH, LOW, Bound, Held, Lab


def test_a_name_gets_the_same_port_without_any_memory() -> None:
    found = {Lab().port("web") for _ in range(5)}
    assert len(found) == 1 and LOW <= found.pop() <= HIGH


def test_a_lease_beats_the_name() -> None:
    lab = Lab()
    first = lab.port("web")
    lab.leave(first)
    other = LOW if first != LOW else HIGH
    lab.leases.keep(Owner("", "t", "h", "ssh"), other, "i")
    lab.start()
    assert lab.port("ssh") == other and lab.port("web") == first


def test_clones_get_a_port_each_and_each_its_own_again() -> None:
    lab = Lab()
    had = {identity: lab.port("web", identity, last=True) for identity in ("i1", "i2", "i3")}
    assert len(set(had.values())) == 3
    lab.start()
    assert {identity: lab.port("web", identity) for identity in ("i3", "i1", "i2")} == had


def test_a_crowd_of_clones_makes_no_claim_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "LEASES_A_CLAIM", 3)
    lab = Lab()
    own = {identity: lab.port("web", identity, last=True) for identity in "abcdefgh"}
    lab.start()
    for identity, port in reversed(own.items()):  # each one's own comes first, however many clones it has
        assert lab.port("web", identity) == port
    waits = lab.ask("web", "new")
    assert isinstance(waits, Wait) and len(waits.holders) == 3


def test_clones_that_say_which_port_they_had_never_swap() -> None:
    lab = Lab()
    first, second = (lab.port("web", last=True) for _ in range(2))
    lab.start()
    assert lab.port("web", had=second) == second
    assert lab.port("web", had=first) == first


def test_whoever_says_it_had_anothers_port_gets_its_own() -> None:
    lab = Lab()
    web, ssh = lab.port("web"), lab.port("ssh")
    lab.start()
    assert lab.port("ssh", had=web) == ssh and lab.port("web") == web


def test_the_last_port_comes_back_where_the_server_has_forgotten_it() -> None:
    usual = Lab().port("web")
    other = LOW if usual != LOW else HIGH
    assert Lab().port("web", had=other) == other
    assert Lab().port("web", had=LOW - 1) == usual, "but not one out of the range"


def test_a_port_that_is_released_keeps_its_lease() -> None:
    lab = Lab()
    first = lab.port("web")
    lab.leave(first)
    lab.ports.release(first)
    taken = {lab.port(f"n{number}") for number in range(HIGH - LOW)}
    assert first not in taken and len(taken) == HIGH - LOW, "as long as there are others"
    with pytest.raises(PortError, match="no port is free in 8000-8009"):
        lab.port("late")
    assert lab.port("web") == first


def test_only_who_was_here_for_a_moment_gives_way_when_all_is_leased() -> None:
    lab = Lab()
    had = [lab.port(f"n{number}") for number in range(HIGH - LOW + 1)]
    lab.now += 2 * 3600
    lab.leave(*had[:5])
    had[5:6] = []
    brief = lab.leases.keep(Owner("", "t", "h", "brief"), had[0], "i").port
    lab.leases.release(brief)
    lab.now += SILENCE_S - 1
    with pytest.raises(PortError, match="no port is free"):
        lab.port("late")
    lab.now += 1
    assert lab.port("late") == brief, "the others were here for two hours"
    with pytest.raises(PortError, match="no port is free"):
        lab.port("later")


def test_a_lease_that_nobody_used_for_a_month_is_void() -> None:
    lab = Lab()
    ports = {lab.port(f"n{number}") for number in range(HIGH - LOW + 1)}
    lab.now += 3 * 3600
    lab.leave(*ports)
    lab.now += 30 * DAY - 1
    lab.ports.look_after()
    with pytest.raises(PortError, match="no port is free"):
        lab.port("late")
    lab.now += 1
    assert lab.port("other", remote=LOW) == LOW
    lab.ports.look_after()
    assert lab.port("late") and len(lab.leases) == 2


def test_what_is_in_use_is_put_down_as_used() -> None:
    lab = Lab()
    port = lab.port("web")
    for _ in range(40 * 24):
        lab.now += 3600
        lab.ports.look_after()
    lease = lab.leases.at(port)
    assert lease is not None and lease.used_at == lab.now and lease.held_s == 40 * DAY


def test_ports_of_other_programs_are_passed_over() -> None:
    lab = Lab()
    lab.others = set(range(LOW, HIGH))
    assert lab.port("web") == HIGH
    with pytest.raises(PortError, match="no port is free"):
        lab.port("ssh")


def test_a_wide_range_is_not_tried_through() -> None:
    lab = Lab(10_000, 59_999)
    lab.others = set(range(10_000, 60_000))
    with pytest.raises(PortError, match="no port is free"):
        lab.port("web")
    assert len(lab.asked) == TRIES


def test_a_leased_port_that_is_busy_is_waited_for_and_then_done_without() -> None:
    lab = Lab()
    port = lab.port("web")
    lab.leave(port)
    lab.others = {port}
    assert lab.ask("web") == Wait(busy=(port,))
    assert lab.ask("web", remote=port) == Wait(busy=(port,))
    other = lab.ask("web", last=True)
    assert isinstance(other, Grant) and other.port != port and other.busy == (port,)


@pytest.mark.parametrize(("low", "high", "wanted"), [(LOW, HIGH, 0), (LOW, HIGH, 8005), (0, 0, 0)])
def test_out_of_descriptors_is_an_answer_and_nothing_is_held(low: int, high: int, wanted: int) -> None:
    """The worker is told so and asks again; anything else that rises from here would end its link."""
    lab = Lab(low, high)
    lab.others, lab.error = {0, *range(LOW, HIGH + 1)}, errno.EMFILE
    with pytest.raises(PortError, match="Too many open files") as caught:
        lab.port("web", remote=wanted)
    assert not caught.value.final and not len(lab.leases)
    lab.others = set()
    assert lab.port("web", remote=wanted)


def test_a_name_that_no_file_can_hold_costs_nothing() -> None:
    lab = Lab()
    for _ in range(3):
        with pytest.raises(UnicodeEncodeError):
            lab.port("web\udc80")
    assert len({lab.port(f"n{number}") for number in range(HIGH - LOW + 1)}) == HIGH - LOW + 1


def test_the_systems_choice_of_ports_is_leased_as_well() -> None:
    lab = Lab(0, 0)
    first, second = lab.port("web"), lab.port("ssh")
    assert first != second
    lab.start()
    assert (lab.port("ssh"), lab.port("web")) == (second, first)


def test_the_systems_choice_is_not_a_port_that_is_kept_for_another() -> None:
    lab = Lab(0, 0)
    first = lab.port("web")
    lab.leave(first)
    lab.any = iter([first, first, 50_000])
    assert lab.port("ssh") == 50_000


def test_nobody_chooses_a_port_where_the_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "outgoing_ports", lambda: (32_768, 60_999))
    lab = Lab(0, 0)
    with pytest.raises(PortError, match="--ports 0") as caught:
        lab.port("mail", remote=25)
    assert caught.value.final
    assert lab.port("mail", had=25) != 25, "nor by saying that it had it"
    assert lab.port("other", had=33_000) == 33_000


def test_a_port_that_is_asked_for() -> None:
    lab = Lab()
    assert lab.port("web", remote=8004) == 8004
    with pytest.raises(PortError, match=r"port 8004 is taken$") as caught:
        lab.port("ssh", remote=8004)
    assert not caught.value.final, "it may be free later"
    for port in (LOW - 1, HIGH + 1, 22):
        with pytest.raises(PortError, match="out of the server's range 8000-8009") as caught:
            lab.port("ssh", remote=port)
        assert caught.value.final
    lab.others = {8005}
    with pytest.raises(PortError, match="port 8005 is taken"):
        lab.port("ssh", remote=8005)
    lab.error = errno.EACCES
    with pytest.raises(PortError, match="port 8005 cannot be used: Permission denied"):
        lab.port("ssh", remote=8005)


def test_the_port_of_an_absent_worker_is_nobody_elses() -> None:
    lab = Lab()
    port = lab.port("web")
    lab.leave(port)
    lab.now += 29 * DAY
    with pytest.raises(PortError, match="kept for a worker that is away"):
        lab.port("thief", remote=port)
    assert lab.port("thief", had=port) != port
    assert lab.port("web") == port


def test_another_host_gets_the_port_by_number_once_the_first_is_silent() -> None:
    lab = Lab()
    port = lab.port("web", host="made-before")
    lab.leave(port)
    assert lab.port("web", host="made-anew") != port
    with pytest.raises(PortError, match="kept for a worker"):
        lab.port("web", host="made-again", remote=port)
    lab.now += SILENCE_S
    grant = lab.ask("web", host="made-again", remote=port)
    assert isinstance(grant, Grant) and grant.before == Owner("", "t", "made-before", "web")


def test_a_restart_of_the_server_is_no_race() -> None:
    lab = Lab()
    port = lab.port("web", "i")
    lab.start()
    lab.now += SILENCE_S - 1
    assert lab.port("web", "another") != port, "a clone, perhaps"
    lab.now += 1
    assert lab.port("web", "a third", last=True) == port


def test_a_former_self_is_asked_before_its_port_goes() -> None:
    lab = Lab()
    port = lab.port("web", "i")
    former = lab.held[port]
    assert lab.ask("web", "made anew") == Wait((cast(Any, former),))
    former.alive = True
    clone = lab.port("web", "a clone")
    assert clone != port
    former.alive = former.linked = False
    assert lab.port("web", "made anew", had=0) == port
    assert lab.held[port] is not former


def test_by_number_a_former_self_is_asked_as_well() -> None:
    lab = Lab()
    port = lab.port("web", remote=8004)
    former = lab.held[port]
    assert lab.ask("web", remote=port) == Wait((cast(Any, former),))
    former.linked = False
    assert lab.port("web", remote=port) == port


def test_leases_of_one_identity_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "LEASES_PER_IDENTITY", 3)
    lab = Lab(LOW, LOW + 99)
    ports = [lab.port(f"n{number}") for number in range(3)]
    lab.now += 10
    lab.leave(ports[1])
    lab.port("n3")
    assert len(lab.leases) == 3 and lab.leases.at(ports[1]) is None, "its own oldest one goes"
    unleased = lab.port("n4")
    assert lab.leases.at(unleased) is None and len(lab.leases) == 3, "what is beyond is not kept"
    assert lab.port("n5") != unleased
    lab.leave(unleased)
    assert lab.port("n6", "other")


def test_nobody_gets_more_than_half_of_the_ports_beyond_his_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "LEASES_PER_ADDRESS", 2)
    lab = Lab()
    for number in range(6):
        lab.port(f"n{number}", str(number))
    with pytest.raises(PortError, match="2 ports are in use from there"):
        lab.port("late", "x")


steps = st.lists(
    st.tuples(
        st.sampled_from(["claim", "leave", "wait", "restart", "silent"]),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from([0, 0, LOW, LOW + 1]),
        st.sampled_from([0, 0, LOW, LOW + 1]),
        st.sampled_from([1, 1, 2, 3]),
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(steps)
def test_the_map_of_free_ports_is_always_right(todo: list[tuple[str, int, int, int, int, int]]) -> None:
    """Whatever comes, each port is one's at most, and those that are neither held nor leased can be had."""
    lab = Lab(LOW, LOW + 3)
    for what, name, identity, remote, had, row in todo:
        if what == "claim":
            try:
                lab.ask(f"n{name}", str(identity), last=bool(name & 1), remote=remote, had=had, row=row)
            except PortError:
                pass
        elif what == "leave" and lab.held:
            lab.leave(sorted(lab.held)[name % len(lab.held)])
        elif what == "silent":
            for held in lab.held.values():
                held.linked = False
        elif what == "restart":
            lab.start()
        else:
            lab.now += 10 ** (name + 4)
            lab.ports.look_after()
        leased = [each for lease in lab.leases for each in range(lease.port, lease.port + lease.ports)]
        held = [each for one in lab.held.values() for each in range(one.port, one.port + one.row)]
        assert len(set(leased)) == len(leased) and len(set(held)) == len(held), "no two share a port"
        assert {*leased, *held} == {
            port for port in range(LOW, LOW + 9) if not lab.ports._map.is_free(port, 1)
        }
        assert all(lab.leases.at(port) for port in leased)
        assert set(held) == {port for port in range(LOW, LOW + 9) if lab.ports.held(port)}


def test_udp_prefers_the_number_of_its_tcp_namesake() -> None:
    tcp = Lab()
    udp = tcp.beside()
    port = tcp.port("dns", remote=LOW + 5)
    assert udp.port("dns", like=port) == port
    udp.leave(port)
    assert udp.port("dns", like=LOW + 7) == port  # what it had comes first
    assert udp.port("other", like=port) != port  # and what somebody else has is not taken


def test_leases_of_one_protocol_are_nothing_to_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Limits, "LEASES_PER_IDENTITY", 3)
    tcp = Lab()
    udp = tcp.beside()
    held = [tcp.port("a"), tcp.port("b")]
    assert udp.port("a", like=held[0]) == held[0]
    udp.leave(held[0])
    tcp.port("c")
    assert tcp.leases.at(held[0], "udp") is not None and set(held) <= set(tcp.held)


def test_a_lease_that_goes_early_takes_no_port_of_the_other_protocol() -> None:
    tcp = Lab(LOW, LOW + 1)
    udp = tcp.beside()
    first, second = udp.port("a"), udp.port("b")
    udp.leave(first, second)
    tcp.port("a"), tcp.port("b")
    tcp.now = udp.now = tcp.now + 1000.0
    with pytest.raises(PortError, match="no port is free"):
        tcp.ask("c", last=True)
    assert set(tcp.held) == {first, second}


OWN = ((443, 443), (8000, 8001))


def test_ports_of_a_users_rule_are_nobody_elses() -> None:
    lab = Lab()
    lab.ports.reserve(OWN)
    assert {lab.port(f"u{n}", user="ci", ranges=OWN) for n in range(3)} == {443, 8000, 8001}
    with pytest.raises(PortError, match=r"no port is free in 443,8000-8001"):
        lab.ask("u4", user="ci", ranges=OWN)
    assert {lab.port(f"t{n}") for n in range(8)} == set(range(8002, HIGH + 1))
    for port, ranges, why in (
        (8000, (), "port 8000 is for other users: their rules name it"),
        (8002, OWN, r"port 8002 is none of this user's own \(443,8000-8001\)"),
        (7000, (), "port 7000 is out of the server's range 8000-8009"),
    ):
        with pytest.raises(PortError, match=why):
            lab.ask("x", remote=port, ranges=ranges)


def test_a_lease_outside_of_the_present_ranges_is_not_given_again() -> None:
    lab = Lab()
    before = lab.port("web", user="ci")
    lab.leave(before)
    other = ((9000, 9000),)
    lab.ports.reserve(other)
    assert lab.port("web", user="ci", ranges=other, had=before) == 9000
    lab.leave(9000)
    lab.ports.reserve(())
    assert lab.port("web", user="ci", had=9000) == before


def test_a_lease_is_its_users_also_against_a_port_by_number() -> None:
    lab = Lab()
    port = lab.port("web", user="ci")
    lab.leave(port)
    lab.now += 3600
    with pytest.raises(PortError, match="it is kept for a worker that is away"):
        lab.ask("web", user="nas", remote=port)
    assert lab.port("web", user="nas") != port
    assert lab.port("web", user="ci", remote=port) == port


def test_without_a_range_the_system_chooses_nobodys_named_ports() -> None:
    lab = Lab(0, 0)
    lab.ports.reserve(((40_000, 40_002),))
    assert lab.port("web") == 40_003
    assert lab.port("own", user="ci", ranges=((40_000, 40_000),)) == 40_000


def away(lab: Lab, port: int) -> tuple[Held, list[int]]:
    """Something listens on a leased port whose worker is gone."""
    claim = Claim(lab.leases.at(port).owner, "i", "")  # type: ignore[union-attr]
    held, gone = Held(lab, claim, port), list[int]()
    held.holder = lambda: None  # type: ignore[method-assign,return-value,assignment]
    held.hand_over = lambda: gone.append(-port) or [cast(Any, Bound(port))]  # type: ignore[func-returns-value]
    lab.leave(port)
    lab.ports.stand_in(port, cast(Any, held), gone.append)
    return held, gone


def test_what_stands_in_gives_way_to_its_worker_and_to_nobody_else() -> None:
    lab = Lab()
    port = lab.port("web", wait_s=9)
    assert lab.leases.at(port).wait_s == 9  # type: ignore[union-attr]
    _, gone = away(lab, port)
    with pytest.raises(PortError, match="is taken"):
        lab.port("other", "x", remote=port)
    assert lab.ports.held(port) and not gone
    asked = lab.asked[:]
    assert lab.port("web", "i") == port and gone == [-port]
    assert lab.asked == asked, "its sockets went on listening"
    lab.leave(port)
    assert not lab.ports.held(port)


def test_what_stands_in_is_gone_with_its_lease() -> None:
    lab = Lab()
    port = lab.port("web", wait_s=9)
    _, gone = away(lab, port)
    lab.now += 29 * DAY
    lab.ports.look_after()
    assert not gone and lab.ports.held(port)
    lab.now += 2 * DAY
    lab.ports.look_after()
    assert gone == [port] and not lab.ports.held(port) and lab.ports._map.is_free(port, 1)
