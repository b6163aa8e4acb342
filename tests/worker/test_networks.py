"""What is remembered of networks: which one this is, what got out of it, and nothing of a file that is broken."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from aero.worker import networks
from aero.worker.networks import MAX_LINES, Worked, chosen, gateway, noted, parse

HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
LAN = "eth0\t0001A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
DEFAULT = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
WIFI = "wlan0\t00000000\tFE01A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n"
ARP = (
    "IP address       HW type     Flags       HW address            Mask     Device\n"
    "192.168.1.7      0x1         0x2         aa:aa:aa:aa:aa:aa     *        eth0\n"
    "192.168.1.1      0x1         0x2         52:54:00:12:34:56     *        eth0\n"
)


@pytest.mark.parametrize(
    ("routes", "neighbours", "expected"),
    [
        (HEAD + LAN + DEFAULT, ARP, "192.168.1.1 52:54:00:12:34:56"),
        (HEAD + WIFI + LAN + DEFAULT, ARP, "192.168.1.1 52:54:00:12:34:56"),
        (HEAD + WIFI, ARP, "192.168.1.254"),
        (HEAD + DEFAULT, "", "192.168.1.1"),
        (HEAD + DEFAULT, ARP.replace("52:54:00:12:34:56", "00:00:00:00:00:00"), "192.168.1.1"),
        (HEAD + LAN, ARP, ""),
        (HEAD, ARP, ""),
        ("", "", ""),
        (
            HEAD + "eth0\tx\ty\n\neth0 00000000 FFFFFFFFFF 0003 0 0 0 00000000\n" + DEFAULT,
            "x\n\n",
            "192.168.1.1",
        ),
    ],
)
def test_a_network_is_known_by_its_gateway(routes: str, neighbours: str, expected: str) -> None:
    assert gateway(routes, neighbours) == expected


def test_what_worked_here_comes_before_what_worked_last() -> None:
    lines = [Worked("home", "x", "raw"), Worked("office", "x", "wss"), Worked("cafe", "y", "ws")]
    assert chosen(lines, "home", "x") == "raw"
    assert chosen(lines, "train", "x") == "wss"
    assert chosen(lines, "cafe", "x") == "wss", "another list of ways has other ones"
    assert chosen(lines, "home", "z") == ""
    lines = noted(lines, Worked("home", "x", "tls"))
    assert chosen(lines, "home", "x") == chosen(lines, "train", "x") == "tls" and len(lines) == 3


def test_the_oldest_are_forgotten_and_what_is_no_line_is_left_out() -> None:
    lines: list[Worked] = []
    for number in range(MAX_LINES + 5):
        lines = noted(lines, Worked(str(number), "x", "raw"))
    assert len(lines) == MAX_LINES and lines[0].network == "5"
    text = "\n".join(["", "a\tb", "a\tb\tc\td", "\t\t", "home\tx\traw"])
    assert parse(text) == [Worked("", "", ""), Worked("home", "x", "raw")]


def test_the_file_is_private_and_written_only_when_it_says_something_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "here", lambda: "home")
    state = str(tmp_path / "state")
    assert networks.recall(state, "x") == ""
    networks.remember(state, "x", "tls://h:443")
    file = tmp_path / "state" / networks.FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    before = file.stat().st_ino
    networks.remember(state, "x", "tls://h:443")
    assert file.stat().st_ino == before, "nothing new, nothing written"
    networks.remember(state, "y", "h:8080")
    networks.remember(state, "x", "h:8080")
    assert networks.recall(state, "x") == "h:8080"
    assert [path.name for path in file.parent.iterdir()] == [networks.FILE]


def test_without_a_state_or_with_one_that_cannot_be_written_nothing_is_kept(tmp_path: Path) -> None:
    networks.remember("", "x", "raw")
    assert networks.recall("", "x") == ""
    (tmp_path / "file").write_text("")
    networks.remember(str(tmp_path / "file" / "below"), "x", "raw")
    assert networks.recall(str(tmp_path / "file"), "x") == ""
