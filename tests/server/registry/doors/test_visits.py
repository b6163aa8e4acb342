"""Who has a place at a UDP mapping: the latest, those who have proved to be there before those who have not."""

from __future__ import annotations

from aero.server.registry.doors.visits import Visits


class Guest:
    def __init__(self, key: int, whose: str = "", now: float = 0.0) -> None:
        self.key = key
        self.whose = whose
        self.proven = False
        self.used_at = now


def come(visits: Visits[Guest], guest: Guest) -> Guest | None:
    goes = visits.room_for(guest.whose)
    if goes is not None:
        visits.remove(goes)
    visits.add(guest)
    return goes


def test_the_least_recently_used_goes_first() -> None:
    visits: Visits[Guest] = Visits(3, 10)
    one, two, three = (Guest(number) for number in range(3))
    for each in (one, two, three):
        assert come(visits, each) is None
    visits.touch(one, 1.0)
    assert come(visits, Guest(3)) is two
    assert len(visits) == 3 and visits.get(1) is None and visits.get(0) is one


def test_a_flood_of_made_up_visitors_takes_no_proven_ones_place() -> None:
    visits: Visits[Guest] = Visits(100, 10)
    real = [Guest(-number - 1) for number in range(50)]
    for each in real:
        come(visits, each)
        visits.prove(each)
        visits.prove(each)
    for number in range(10_000):
        come(visits, Guest(number, str(number)))
    assert len(visits) == 100 and all(visits.get(each.key) is each for each in real)
    assert len(visits._by_address) == 50


def test_where_all_are_proven_the_oldest_of_them_goes() -> None:
    visits: Visits[Guest] = Visits(2, 10)
    for number in range(2):
        guest = Guest(number)
        come(visits, guest)
        visits.prove(guest)
    gone = come(visits, Guest(2))
    assert gone is not None and gone.key == 0


def test_one_address_has_its_share_and_loses_its_own() -> None:
    visits: Visits[Guest] = Visits(100, 3)
    other = Guest(99, "other")
    come(visits, other)
    mine = [Guest(number, "mine", float(number)) for number in range(4)]
    for each in mine[:3]:
        come(visits, each)
    visits.touch(mine[0], 9.0)
    assert come(visits, mine[3]) is mine[1]
    assert visits.get(99) is other
    for each in mine:
        visits.remove(each)
        visits.remove(each)
    assert list(visits) == [other]


def test_who_is_silent() -> None:
    visits: Visits[Guest] = Visits(10, 10)
    guests = [Guest(number, now=float(number)) for number in range(5)]
    for each in guests:
        come(visits, each)
    visits.prove(guests[0])
    visits.touch(guests[0], 10.0)
    assert visits.silent_since(3.0) == guests[1:3]
