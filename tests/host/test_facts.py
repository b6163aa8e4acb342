"""What the machine and its cgroups say of memory, in every shape that they have."""

from __future__ import annotations

import os
from pathlib import Path

import gevent
import pytest

from aero.host import facts
from aero.limits import Limits

MACHINE = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


def host(root: Path, cgroup: str, **files: str) -> str:
    """A root folder with this /proc/self/cgroup and these files below /sys/fs/cgroup; "_" stands for "/"."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(cgroup)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name.replace("_", "/").replace("DOT", ".").replace("LINE", "_")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def test_the_tightest_cgroup_counts(tmp_path: Path) -> None:
    root = host(
        tmp_path,
        "0::/system.slice/aero.service\n",
        memoryDOTmax="max\n",
        systemDOTslice_memoryDOTmax=f"{64 * MIB}\n",
        systemDOTslice_aeroDOTservice_memoryDOTmax=f"{100 * MIB}\n",
    )
    assert facts.memory_bytes(root) == 64 * MIB


def test_a_container_whose_path_is_its_hosts(tmp_path: Path) -> None:
    root = host(tmp_path, "0::/docker/0123\n", memoryDOTmax=f"{80 * MIB}\n")
    assert facts.memory_bytes(root) == 80 * MIB


def test_the_first_version_of_cgroups(tmp_path: Path) -> None:
    root = host(
        tmp_path,
        "5:cpu,cpuacct:/a\n4:memory:/a\n1:name=systemd:/a\n",
        memory_a_memoryDOTlimitLINEinLINEbytes=f"{70 * MIB}\n",
        memory_memoryDOTlimitLINEinLINEbytes=f"{2**63 - 4096}\n",
    )
    assert facts.memory_bytes(root) == 70 * MIB


@pytest.mark.parametrize("cgroup", ["", "nonsense\n", "0::/\n", "4:memory:/gone\n"])
def test_without_a_limit_it_is_the_machines(tmp_path: Path, cgroup: str) -> None:
    assert facts.memory_bytes(host(tmp_path, cgroup)) == MACHINE


def test_without_proc_it_is_the_machines(tmp_path: Path) -> None:
    assert facts.memory_bytes(str(tmp_path)) == MACHINE


@pytest.mark.parametrize(
    ("has", "share"),
    [(0, 48 * MIB), (100 * MIB, 48 * MIB), (1024 * MIB, 256 * MIB), (64 << 30, 512 * MIB)],
)
def test_the_share_is_a_quarter_within_bounds(monkeypatch: pytest.MonkeyPatch, has: int, share: int) -> None:
    monkeypatch.setattr(facts, "memory_bytes", lambda: has)
    assert facts.memory_share() == share
    assert Limits.MEMORY_MIN <= share <= Limits.MEMORY_MAX


def test_this_process_costs_something() -> None:
    found = facts.facts()
    assert found["rss_kib"] > 1000 and found["descriptors"] >= 3 and found["greenlets"] >= 0


def test_counting_greenlets_keeps_nobody_waiting() -> None:
    """With 2,000 streams there are some 100,000 objects."""
    crowd: list[object] = [[] for _ in range(300_000)]
    turns = 0

    def others() -> None:
        nonlocal turns
        while True:
            gevent.sleep(0)
            turns += 1

    other = gevent.spawn(others)
    gevent.sleep(0)
    before = turns
    found = facts.facts()
    other.kill()
    assert turns - before >= 3 and found["greenlets"] >= 1
    del crowd
