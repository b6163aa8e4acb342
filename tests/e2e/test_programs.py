"""Real clients and servers of other people through the tunnel: whatever works on a wire must work here."""

from __future__ import annotations

import hashlib
import random
import shlex
import socket
from pathlib import Path

import pytest

from tests.e2e import services
from tests.e2e.harness import LOOPBACK, Lab, Program, connect, poll, read_all
from tests.e2e.services import find

MIB = 1024 * 1024


def write_random(path: Path, mebibytes: int, seed: int = 1) -> str:
    """A file in which every mebibyte differs from every other, quickly made; its SHA-256."""
    digest = hashlib.sha256()
    block = random.Random(seed).randbytes(MIB)
    with path.open("wb") as file:
        for number in range(mebibytes):
            cut = number * 1021 % MIB
            for part in (block[cut:], block[:cut]):
                file.write(part)
                digest.update(part)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(MIB):
            digest.update(chunk)
    return digest.hexdigest()


def most_memory_during(transfer: Program, watched: list[Program]) -> list[int]:
    """Wait for a transfer to succeed; the most resident memory that each process had meanwhile, in bytes."""
    most = [program.memory() for program in watched]

    def ended() -> bool:
        over = not transfer.running
        most[:] = [max(before, program.memory()) for before, program in zip(most, watched)]
        return over

    poll(f"{transfer.name} to end", ended, timeout_s=150)
    assert transfer.popen.returncode == 0, f"{transfer.name} exit {transfer.popen.returncode}"
    return most


def test_a_gibibyte_each_way_arrives_whole_in_flat_memory(lab: Lab) -> None:
    web = services.nginx(lab)
    digest = write_random(web.root / "big", 1024)
    tunnel = lab.tunnel({"web": web.port})
    url = f"http://{LOOPBACK}:{tunnel[1].port('web')}"
    curl = [find("curl"), "--silent", "--show-error", "--fail"]
    before = [program.memory() for program in tunnel]

    fetched = lab.path("fetched")
    download = lab.start([*curl, "-o", str(fetched), f"{url}/big"], name="download")
    after_download = most_memory_during(download, [*tunnel])
    assert sha256(fetched) == digest

    (web.root / "big").unlink()
    upload = lab.start([*curl, "-T", str(fetched), f"{url}/uploaded"], name="upload")
    after_upload = most_memory_during(upload, [*tunnel])
    assert sha256(web.root / "uploaded") == digest

    for name, start, down, up in zip(("server", "worker"), before, after_download, after_upload):
        growth = (max(down, up) - start) // MIB
        assert growth < 40, f"{name} grew by {growth} MiB: from {start}, to {down} down, to {up} up"


def test_many_downloads_at_once(lab: Lab) -> None:
    web = services.nginx(lab)
    digests = {f"file-{number}": write_random(web.root / f"file-{number}", 1, number) for number in range(32)}
    _, worker = lab.tunnel({"web": web.port})
    fetched = lab.new_folder("fetched")
    url = f"http://{LOOPBACK}:{worker.port('web')}/file-[0-31]"
    parallel = ["--parallel", "--parallel-immediate", "--parallel-max", "32"]
    lab.check([find("curl"), "-sS", "--fail", *parallel, "-o", f"{fetched}/file-#1", url])
    assert {path.name: sha256(path) for path in fetched.iterdir()} == digests


def test_http2_streams_on_one_tls_connection(lab: Lab) -> None:
    """As gRPC does it: binary frames of many streams in both directions of one connection."""
    web = services.nginx(lab)
    digests = {f"file-{number}": write_random(web.root / f"file-{number}", 1, number) for number in range(16)}
    _, worker = lab.tunnel({"web": web.port_tls})
    fetched = lab.new_folder("fetched")
    url = f"https://{LOOPBACK}:{worker.port('web')}/file-[0-15]"
    options = ["--insecure", "--http2", "--parallel", "-w", "%{http_version} %{http_code}\n"]
    answer = lab.check([find("curl"), "-sS", "--fail", *options, "-o", f"{fetched}/file-#1", url])
    assert answer.splitlines() == ["2 200"] * 16
    assert {path.name: sha256(path) for path in fetched.iterdir()} == digests


def test_ssh_scp_and_rsync(lab: Lab) -> None:
    shell = services.sshd(lab)
    _, worker = lab.tunnel({"ssh": shell.port})
    config = shell.client(worker.port("ssh"))
    ssh = [find("ssh"), "-F", config]
    assert lab.check([*ssh, "lab", "echo to the other side"]) == "to the other side\n"
    assert lab.run([*ssh, "lab", "exit 7"]).returncode == 7

    near, far = lab.path("near"), lab.path("far")
    digest = write_random(near, 16)
    scp = [find("scp"), "-q", "-F", config]
    lab.check([*scp, str(near), f"lab:{far}"])
    assert sha256(far) == digest
    back = lab.path("back")
    lab.check([*scp, f"lab:{far}", str(back)])
    assert sha256(back) == digest

    tree, copy, returned = lab.new_folder("tree"), lab.path("copy"), lab.path("returned")
    for number in range(40):
        (tree / f"folder-{number % 5}").mkdir(exist_ok=True)
        (tree / f"folder-{number % 5}" / f"file-{number}").write_bytes(
            random.Random(number).randbytes(20_000)
        )
    rsync = [find("rsync"), "-a", "--checksum", "-e", shlex.join(ssh)]
    lab.check([*rsync, f"{tree}/", f"lab:{copy}/"])
    (tree / "folder-0" / "file-0").write_text("changed")
    lab.check([*rsync, "--delete", f"{tree}/", f"lab:{copy}/"])
    lab.check([*rsync, f"lab:{copy}/", f"{returned}/"])
    lab.check(["diff", "-r", str(tree), str(returned)])


@pytest.mark.programs
def test_git_over_ssh_and_http(lab: Lab) -> None:
    git = find("git")
    who = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "lab", f"GIT_{role}_EMAIL": "lab@example.org"}
    shell, web = services.sshd(lab), services.nginx(lab)
    source, bare = lab.new_folder("source"), web.root / "project.git"
    lab.check([git, "init", "-q", "-b", "main", str(source)], env=who)
    write_random(source / "data", 8)
    lab.check([git, "-C", str(source), "add", "data"], env=who)
    lab.check([git, "-C", str(source), "commit", "-q", "-m", "Add data"], env=who)
    lab.check([git, "clone", "-q", "--bare", str(source), str(bare)], env=who)
    lab.check([git, "-C", str(bare), "update-server-info"], env=who)

    _, worker = lab.tunnel({"ssh": shell.port, "web": web.port})
    ssh = {"GIT_SSH_COMMAND": shlex.join([find("ssh"), "-F", shell.client(worker.port("ssh"))])}
    urls = [f"lab:{bare}", f"http://{LOOPBACK}:{worker.port('web')}/project.git"]
    for url in urls:
        clone = lab.path("clone")
        lab.check([git, "clone", "-q", url, str(clone)], env={**who, **ssh})
        assert sha256(clone / "data") == sha256(source / "data")
    (source / "more").write_text("more")
    lab.check([git, "-C", str(source), "add", "more"], env=who)
    lab.check([git, "-C", str(source), "commit", "-q", "-m", "Add more"], env=who)
    lab.check([git, "-C", str(source), "push", "-q", urls[0], "main"], env={**who, **ssh})
    heads = [lab.check([git, "-C", str(repo), "rev-parse", "main"], env=who) for repo in (source, bare)]
    assert heads[0] == heads[1]


@pytest.mark.programs
def test_pgbench_against_postgresql(lab: Lab) -> None:
    database = services.postgres(lab)
    _, worker = lab.tunnel({"db": database})
    where = ["-h", LOOPBACK, "-p", str(worker.port("db")), "-U", "lab"]
    pgbench = [find("pgbench"), *where]
    lab.check([*pgbench, "-i", "-q", "-s", "1", "postgres"])
    answer = lab.check([*pgbench, "-c", "8", "-j", "2", "-t", "50", "postgres"])
    assert "number of transactions actually processed: 400/400" in answer
    # A connection per transaction, and one answer of 20 MB.
    answer = lab.check([*pgbench, "-c", "4", "-t", "25", "-S", "--connect", "postgres"])
    assert "number of transactions actually processed: 100/100" in answer
    query = "select repeat('x', 1000) from generate_series(1, 20000)"
    assert lab.check([find("psql"), *where, "-At", "-c", query, "postgres"]) == ("x" * 1000 + "\n") * 20000


def test_redis_benchmark(lab: Lab) -> None:
    _, worker = lab.tunnel({"cache": services.redis(lab)})
    where = ["-h", LOOPBACK, "-p", str(worker.port("cache"))]
    load = ["-n", "5000", "-c", "50", "-d", "512", "-t", "ping_inline,set,get,lrange_100", "--csv"]
    done = lab.run([find("redis-benchmark"), *where, *load])
    assert done.returncode == 0 and "error" not in (done.stdout + done.stderr).lower(), done.stderr
    tests = [line.split(",")[0].strip('"') for line in done.stdout.splitlines()[1:]]
    assert {"PING_INLINE", "SET", "GET"} <= set(tests), done.stdout
    assert lab.check([find("redis-cli"), *where, "ping"]) == "PONG\n"


def test_netcat_half_closes_and_still_gets_the_answer(lab: Lab) -> None:
    """The visitor ends its direction first; what the target then says must still arrive."""

    def count_and_answer(connection: socket.socket) -> None:
        connection.sendall(hashlib.sha256(read_all(connection)).hexdigest().encode())

    _, worker = lab.tunnel({"sum": services.serve(lab, count_and_answer)})
    sent = lab.path("sent")
    digest = write_random(sent, 4)
    where = [LOOPBACK, str(worker.port("sum"))]
    netcat = lab.start([find("nc.openbsd"), "-N", *where], stdin=sent)
    assert netcat.wait() == 0
    assert netcat.stdout == digest


def test_a_target_that_half_closes_still_gets_the_rest(lab: Lab) -> None:
    """The target, a netcat, ends its direction first; what the visitor then says must still arrive."""
    sent = lab.path("sent")
    write_random(sent, 4)
    port = services.free_port()
    netcat = lab.start([find("nc.openbsd"), "-l", "-N", LOOPBACK, str(port)], stdin=sent)
    poll("netcat to listen", lambda: services.listening(port))
    _, worker = lab.tunnel({"nc": port})
    words = random.Random(2).randbytes(MIB)
    with connect(worker.port("nc")) as visitor:
        assert hashlib.sha256(read_all(visitor)).hexdigest() == sha256(sent)
        visitor.sendall(words)
    assert netcat.wait() == 0
    assert netcat.stdout_path.read_bytes() == words
