"""Who a worker is: the same after any restart and any edit of its configuration, and never two at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from aero.address import Target
from aero.config.roles import ClientConfig
from aero.host import lock
from aero.worker import identity
from aero.worker.identity import Identity, take


class Host:
    """Workers that start and end on one host."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.running: list[Identity] = []

    def start(self, *names: str, tag: str = "t", host: str = "h", state: str | None = None) -> Identity:
        targets = tuple(Target(name, "127.0.0.1", 80) for name in names)
        config = ClientConfig(
            tag=tag, host=host, targets=targets, state=self.state if state is None else state
        )
        self.running.append(take(config))
        return self.running[-1]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(lock, "FALLBACKS", (str(tmp_path),))
    host = Host(str(tmp_path / "state"))
    yield host
    for each in host.running:
        each.release()


def restart(worker: Identity, here: Host, *names: str) -> Identity:
    worker.release()
    return here.start(*names)


def test_another_list_of_targets_is_the_same_worker(here: Host) -> None:
    first = here.start("a", "b")
    assert restart(first, here, "a", "b", "c").text == first.text
    assert restart(here.running[-1], here, "x").text == first.text


def test_tag_and_host_make_another_worker(here: Host) -> None:
    found = {here.start("a").text, here.start("a", tag="u").text, here.start("a", host="i").text}
    assert len(found) == 3


def test_two_workers_with_one_tag_are_two(here: Host) -> None:
    workers = [here.start("a") for _ in range(5)]
    assert len({worker.text for worker in workers}) == 5
    assert restart(workers[2], here, "a").text == workers[2].text, "its place alone is free"


def test_workers_that_come_back_in_another_order_find_their_own_places(here: Host) -> None:
    """After a power cut all places are free, and who starts first is chance."""
    before = [here.start(*names) for names in (("a", "b"), ("c", "d"), ("e",))]
    for each in before:
        each.release()
    assert here.start("e").text == before[2].text
    assert here.start("c", "d", "new").text == before[1].text
    assert here.start("other").text == before[0].text


def test_a_reload_is_remembered(here: Host) -> None:
    first, second = here.start("a"), here.start("b")
    first.remember(["x"])
    second.remember(["y"])
    for each in (first, second):
        each.release()
    assert here.start("y").text == second.text


def test_a_copy_of_the_state_is_a_clone(here: Host, tmp_path: Path) -> None:
    """Elsewhere, for instance in another container: the server tells them apart by a sign of life."""
    first = here.start("a")
    copy = str(tmp_path / "copy")
    shutil.copytree(here.state, copy)
    assert here.start("a", state=copy).text == first.text


def test_where_nothing_can_be_kept_it_is_the_machines(here: Host) -> None:
    first, second = here.start("a", state=""), here.start("a", state="")
    assert first.text != second.text
    first.release()
    assert here.start("a", state="").text == first.text


def test_where_nothing_can_be_locked_there_is_one_place(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "FALLBACKS", ("/dev/null/none",))
    first, second = here.start("a", state=""), here.start("a", state="")
    assert first.text == second.text


def test_more_workers_than_places(here: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "PLACES", 2)
    workers = [here.start("a") for _ in range(4)]
    assert len({worker.text for worker in workers}) == 4


def test_first_starts_at_once_have_one_seed(tmp_path: Path) -> None:
    """Both have looked and found none; one of them is quicker."""
    path = str(tmp_path / identity.FILE)
    assert identity._make(path) == identity._make(path) == Path(path).read_bytes()
    assert os.listdir(tmp_path) == [identity.FILE]


def test_a_seed_that_is_too_short_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / identity.FILE).write_bytes(b"short")
    seed = identity._kept_seed(str(tmp_path))
    assert len(seed) == 32 and identity._kept_seed(str(tmp_path)) == seed
    assert os.listdir(tmp_path) == [identity.FILE]
