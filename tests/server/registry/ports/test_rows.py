"""Ports in a row: which ones a mapping gets, all or none."""

from __future__ import annotations

import pytest

from aero.errors import PortError
from aero.server.registry.ports import binding
from aero.server.registry.ports.grants import Claim, Grant, Wait
from aero.server.store.leases import Owner
from tests.server.registry.ports.lab import HIGH, LOW, Lab


def test_ports_in_a_row_are_got_all_or_none_and_come_back() -> None:
    lab = Lab()
    first = lab.port("ftp", row=4)
    assert [lease[:3] + (lease.ports,) for lease in lab.leases] == [(Owner("", "t", "h", "ftp"), 0, first, 4)]
    lab.leave(first)
    lab.start()
    assert lab.port("ftp", row=4) == first, "by its lease"
    with pytest.raises(PortError, match=f"port {first + 1} of {first + 1}-{first + 2} is taken"):
        lab.port("x", "x", remote=first + 1, row=2)
    with pytest.raises(PortError, match=r"no 7 ports in a row are free in 8000-8009"):
        lab.port("x", "x", row=7)
    with pytest.raises(
        PortError, match=r"ports 8008-8011 are out of the server's range 8000-8009"
    ) as refused:
        lab.port("x", "x", remote=HIGH - 1, row=4)
    assert refused.value.final
    assert sorted({lab.port(f"n{each}", "n") for each in range(6)} | {*range(first, first + 4)}) == [
        *range(LOW, HIGH + 1)
    ]


def test_what_another_program_has_of_a_row_makes_it_another_row() -> None:
    lab = Lab()
    first = lab.port("ftp", row=4)
    lab.leave(first)
    lab.others.add(first + 3)
    assert lab.ask("ftp", row=4) == Wait(busy=(first + 3,)), "it may be gone in a moment"
    grant = lab.ask("ftp", row=4, last=True)
    assert isinstance(grant, Grant) and grant.busy == (first + 3,)
    assert not set(range(grant.port, grant.port + 4)) & lab.others
    lab.ports._leases.forget(first)
    with pytest.raises(PortError, match=f"port {first + 3} of {first + 2}-{first + 3} is taken$"):
        lab.ask("y", "y", remote=first + 2, row=2, last=True)
    assert lab.ports._map.is_free(first + 2, 2), "nothing of it is left"


def test_while_a_row_is_bound_its_ports_are_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "SLICE", 2)
    lab = Lab()
    ours = lab.ports.claiming(Claim(Owner("", "t", "h", "a"), "a", "", remote=LOW + 2, row=5))
    next(ours)
    assert lab.asked == [LOW + 2, LOW + 3]
    for row in (1, 3):
        with pytest.raises(PortError, match=r"is taken$"):
            lab.ask("b", "b", remote=LOW + 4, row=row, last=True)
    assert not set(range(LOW + 2, LOW + 7)) & {lab.port(f"n{each}", "n") for each in range(5)}
    ours.close()  # its worker has gone
    assert lab.ports._map.is_free(LOW + 2, 5) and lab.port("b", "b", remote=LOW + 4, row=3) == LOW + 4


def test_a_row_leaves_descriptors_to_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab()
    monkeypatch.setattr(lab.ports._binding, "_line", 7)
    with pytest.raises(PortError, match="too few descriptors for so many ports"):
        lab.port("ftp", row=4)
    assert lab.ports._map.is_free(LOW, 10) and not list(lab.leases)
    assert lab.port("web")


def test_without_a_range_there_are_no_ports_in_a_row() -> None:
    with pytest.raises(PortError, match=r"no range to take ports in a row from \(--ports 0\)") as refused:
        Lab(0, 0).port("ftp", row=2)
    assert refused.value.final
    assert Lab(0, 0).port("ftp", row=2, ranges=((900, 901),)) == 900


def test_a_row_is_within_one_users_ports() -> None:
    lab = Lab()
    lab.ports.reserve([(8003, 8005)])
    assert lab.port("a", row=3, ranges=((8003, 8005),)) == 8003
    with pytest.raises(
        PortError, match=r"ports 8002-8003 are for other users: their rules name some of them"
    ):
        lab.port("b", "b", remote=8002, row=2)
    with pytest.raises(PortError, match=r"ports 8005-8006 are none of this user's own \(8003-8005\)"):
        lab.port("b", "b", remote=8005, row=2, ranges=((8003, 8005),))
    assert lab.port("c", "c", row=4) == 8006
