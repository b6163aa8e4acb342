"""Programs that speak UDP, through the tunnel, and what they say of loss; dig is in test_udp.py."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import select
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Iterator

import pytest

from tests.e2e import services
from tests.e2e.harness import LOOPBACK, Lab, Worker, free_port, listening, poll
from tests.e2e.test_udp import ask, visitor

pytestmark = [pytest.mark.programs, pytest.mark.timeout(180)]


def two_ways(lab: Lab, port: int) -> int:
    """A tunnel to a service by TCP and UDP on one number, which it returns."""
    _, worker = lab.tunnel({"both": f"{LOOPBACK}:{port},both@{LOOPBACK}:{port}/udp"})
    poll("both mappings", lambda: worker.stdout.count("->") == 2)
    return worker.port("both")


@pytest.mark.parametrize("way", ["up", "down"])
def test_iperf3_at_10_and_50_mbit(lab: Lab, way: str) -> None:
    port = free_port()
    lab.start([services.find("iperf3"), "-s", "-B", LOOPBACK, "-p", str(port)], name="iperf3")
    poll("iperf3 to listen", lambda: listening(port))
    mapped = two_ways(lab, port)
    for rate in (10, 50):
        argv = [services.find("iperf3"), "-u", "-J", "-c", LOOPBACK, "-p", str(mapped), "-b", f"{rate}M"]
        argv += ["-l", "1200", "-w", "2M", "-t", "3", *(["-R"] if way == "down" else [])]
        answer = json.loads(lab.check(argv))
        assert "sum" in answer["end"], answer
        said = answer["end"]["sum"]
        print(f"{rate} Mbit/s {way}: {said['lost_percent']:.2f} % lost, jitter {said['jitter_ms']:.3f} ms")
        assert said["lost_percent"] < 1 and said["bits_per_second"] > 0.95e6 * rate


def test_snmp(lab: Lab) -> None:
    folder, port = lab.new_folder("snmp"), free_port()
    (folder / "snmpd.conf").write_text(f"rocommunity public {LOOPBACK}\n")
    argv = [services.find("snmpd"), "-f", "-C", "-c", str(folder / "snmpd.conf"), "-Lo"]
    lab.start([*argv, f"udp:{LOOPBACK}:{port}"], env={"SNMP_PERSISTENT_DIR": str(folder)}, name="snmpd")
    _, worker = lab.tunnel({"snmp": f"{LOOPBACK}:{port}/udp"})
    where = ["-v2c", "-c", "public", "-Oqv", f"{LOOPBACK}:{worker.port('snmp')}"]
    uptime = [services.find("snmpget"), "-r0", "-t2", *where, ".1.3.6.1.2.1.1.3.0"]
    poll("snmpd to answer", lambda: lab.run(uptime).returncode == 0)
    for _ in range(50):
        lab.check(uptime)
    walked = lab.check([services.find("snmpwalk"), "-r0", "-t5", *where, ".1.3.6.1.2.1.1"])
    assert len(walked.splitlines()) > 5


def test_mosh_stays_when_the_link_is_cut(lab: Lab) -> None:
    port = free_port()
    argv = [services.find("mosh-server"), "new", "-i", LOOPBACK, "-p", str(port), "--", "/bin/sh", "-c"]
    said = lab.run([*argv, "sleep 3; echo still-here; sleep 5"])
    key = re.search(r"MOSH CONNECT \d+ (\S+)", said.stdout)
    assert key, said.stderr
    server, worker = lab.tunnel({"mosh": f"{LOOPBACK}:{port}/udp"})
    client = [services.find("mosh-client"), LOOPBACK, str(worker.port("mosh"))]
    pid, terminal = pty.fork()
    if not pid:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.execve(client[0], client, lab.environment({"MOSH_KEY": key[1], "TERM": "xterm"}))
    try:
        shown, until = b"", time.monotonic() + 30
        cut = False
        while b"still-here" not in shown:
            assert time.monotonic() < until, shown[-500:]
            if select.select([terminal], [], [], 0.2)[0]:
                shown += os.read(terminal, 4096)
            if not cut and shown:
                cut = True
                subprocess.run(
                    ["ss", "-K", "dport", "=", str(server.link_port)], capture_output=True, check=False
                )
        worker.says("link resumed")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_bursts_as_game_servers_send_them(lab: Lab) -> None:
    """Twenty players: small datagrams, with a snapshot of 20 KB in pieces now and then. None is lost."""
    from tests.e2e.test_udp import Echo

    echo = Echo(lab)
    _, worker = lab.tunnel({"game": f"{LOOPBACK}:{echo.port}/udp"})
    with contextlib.ExitStack() as stack:
        players = [stack.enter_context(visitor(worker.port("game"))) for _ in range(20)]
        for player in players:
            ask(player, b"join")
        for tick in range(60):
            for player in players:
                for _ in range(17 if tick % 20 == 0 else 1):
                    player.send(bytes(1200))
            for player in players:
                for _ in range(17 if tick % 20 == 0 else 1):
                    assert len(player.recv(2000)) == 1200
    assert len(echo.visitors) == 20


# WireGuard needs namespaces of its own, and so root


@pytest.fixture
def ends() -> Iterator[tuple[str, str]]:
    """Two network namespaces with a cable between them: 10.77.0.1 and 10.77.0.2."""
    names = [f"aero-wg{end}-{os.getpid()}" for end in (1, 2)]
    ip = shutil.which("ip", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    assert ip and os.geteuid() == 0, "WireGuard's test needs root and iproute2"

    def run(*words: str) -> None:
        subprocess.run([ip, *words], check=True, capture_output=True)

    try:
        for name in names:
            run("netns", "add", name)
        run(
            "link",
            "add",
            "cable",
            "netns",
            names[0],
            "type",
            "veth",
            "peer",
            "name",
            "cable",
            "netns",
            names[1],
        )
        for number, name in enumerate(names, 1):
            run("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            for device in ("lo", "cable"):
                run("-n", name, "link", "set", device, "up")
        yield names[0], names[1]
    finally:
        for name in names:
            subprocess.run([ip, "netns", "del", name], capture_output=True, check=False)


def test_wireguard_does_not_notice_that_the_link_is_cut(lab: Lab, ends: tuple[str, str]) -> None:
    near, far = (["ip", "netns", "exec", name] for name in ends)
    port, state = free_port(), lab.path("state")
    from tests.e2e.harness import COMMAND

    server = lab.start(
        [*near, *COMMAND, "server", "--ip", "10.77.0.1", "--port", str(port), "--ports", "20000-20010"]
        + ["--api", "off", "--mux", "off", "--auth", lab.code, "--state", str(state)],
        name="server",
    )
    server.says("links=")
    worker = lab._start(
        Worker,
        "worker",
        [*far, *COMMAND, "client", "--server", f"10.77.0.1:{port}", "--auth", lab.code, "--tag", "t"]
        + ["--target", "wg@127.0.0.1:51820/udp?remote=20005&idle=180", "--state", str(lab.path("worker"))],
        None,
    )
    keys = []
    for number, end in enumerate((near, far), 1):
        device = f"wga{number}"
        lab.start([*end, services.find("wireguard-go"), "-f", device], env={"WG_PROCESS_FOREGROUND": "1"})
        poll(
            "the device",
            lambda end=end, device=device: lab.run([*end, "ip", "link", "show", device]).returncode == 0,
        )  # type: ignore[misc]
        private = lab.path(f"key{number}")
        private.write_text(lab.check([services.find("wg"), "genkey"]))
        private.chmod(0o600)
        public = subprocess.run(
            ["wg", "pubkey"], input=private.read_text(), capture_output=True, text=True, check=True
        )
        keys.append((device, private, public.stdout.strip()))
    worker.port("wg")
    for end, (device, private, _), other, more in (
        (near, keys[0], keys[1], ["endpoint", "10.77.0.1:20005"]),
        (far, keys[1], keys[0], []),
    ):
        mine, its = (1, 2) if end is near else (2, 1)
        listen = ["listen-port", "51820"] if end is far else []
        lab.check(
            [*end, "wg", "set", device, *listen, "private-key", str(private), "peer", other[2]]
            + ["allowed-ips", f"10.88.0.{its}/32", *more]
        )
        lab.check([*end, "ip", "addr", "add", f"10.88.0.{mine}/24", "dev", device])
        lab.check([*end, "ip", "link", "set", device, "mtu", "1420", "up"])
    ping = [*near, services.find("ping"), "-i", "0.1", "-q", "10.88.0.2"]
    poll("the first ping", lambda: lab.run([*ping, "-c", "1", "-W", "1"]).returncode == 0)
    pinging = lab.start([*ping, "-c", "120"], name="ping")
    for number in (1, 2):
        until = time.monotonic() + 5
        poll("five seconds", lambda until=until: time.monotonic() > until)  # type: ignore[misc]
        lab.run([*near, "ss", "-K", "sport", "=", str(port)])
        poll("the next link", lambda number=number: worker.stderr.count("link resumed") == number)  # type: ignore[misc]
    assert pinging.wait(60) == 0
    lost = re.search(r"([\d.]+)% packet loss", pinging.stdout)
    assert lost and float(lost[1]) < 10, pinging.stdout
