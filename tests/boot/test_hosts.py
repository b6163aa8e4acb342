"""Hosts that make it hard: nothing executable, nothing writable, no space, no memory, no environment, another CPU."""

from __future__ import annotations

import glob
import os
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

import aero
from tests.boot.conftest import CHECKOUT
from tests.boot.hosts import PYTHON, SHARED, Host, can_mount, everywhere, is_good, remount, trees
from tests.boot.pythons import modern

namespaces = pytest.mark.skipif(
    not can_mount(), reason="only root can mount, where the machine allows it at all"
)


def show_maps(host: Host) -> None:
    """Make the archive's Python print on standard error, at its end, which libraries it has mapped."""
    folder = host.folder / "maps"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import atexit, sys\natexit.register(lambda: sys.stderr.write(open('/proc/self/maps').read()))\n"
    )
    host.env["PYTHONPATH"] = str(folder)


@namespaces
def test_noexec_everywhere_runs_from_memory(host: Host) -> None:
    show_maps(host)
    done = host.run_among(everywhere(host, "noexec"), "demo", "--check")
    assert done.returncode == 0, done.stderr
    assert "memfd:_greenlet" in done.stderr
    assert trees(host.cache) == [], "not even unpacked where it could not be used"


@namespaces
def test_read_only_everywhere_runs_from_memory(host: Host) -> None:
    show_maps(host)
    done = host.run_among(everywhere(host, "ro"), "demo", "--check")
    assert done.returncode == 0, done.stderr
    assert "memfd:_greenlet" in done.stderr
    assert not (host.home / ".cache").exists()


def open_to_nobody() -> list[str]:
    """Return interpreters that uid 65534 can use: no folder above them is private."""
    guesses = {
        os.path.realpath(path): None for path in ["/usr/bin/python3", "/usr/local/bin/python3", *modern()]
    }
    return [
        path
        for path in guesses
        if os.path.exists(path) and all(above.stat().st_mode & 0o001 for above in Path(path).parents)
    ]


@namespaces
@pytest.mark.skipif(not open_to_nobody(), reason="every Python here is in somebody's private folder")
def test_nobody_with_nothing_writable_runs_from_memory(host: Host) -> None:
    show_maps(host)
    host.env.pop("HOME")
    place = next(folder for folder in ("/mnt", "/srv", "/media", "/opt") if os.path.isdir(folder))
    mounts = [
        f"mount --bind '{host.folder}' {place}",  # pytest's folders are private
        remount(place, "ro"),
        *(remount(shared, "ro") for shared in SHARED if os.path.isdir(shared)),
    ]
    host.folder.chmod(0o755)
    host.env["PYTHONPATH"] = f"{place}/maps"
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    command = [*nobody, open_to_nobody()[0], f"{place}/program/aero.pyz"]
    done = host.run_among(mounts, "demo", "--check", command=command)
    assert done.returncode == 0, done.stderr
    assert "memfd:_greenlet" in done.stderr


@namespaces
def test_a_full_disk_is_left_clean_and_the_next_folder_serves(host: Host) -> None:
    full = host.folder / "full"
    full.mkdir(mode=0o700)
    host.env["AERO_CACHE"] = str(full / "cache")
    mount = f"mount -t tmpfs -o size=1m,mode=700 tmpfs '{full}'"
    done = host.run_among([mount], "--version", then=f"ls -A '{full}'")
    assert done.stdout == f"AeRO-proxy {aero.__version__}\n", "nothing there before"
    done = host.run_among([mount], "--help", then=f"ls -A '{full}/cache' | wc -l")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].strip() == "0", "nothing there but the empty folder after"
    assert is_good(host.cache, host.pyz)


@namespaces
def test_no_way_at_all_exits_78_and_lists_every_reason(host: Host) -> None:
    mounts = [*everywhere(host, "noexec"), "mount -t tmpfs tmpfs /proc"]  # memory needs /proc/self/fd
    done = host.run_among(mounts, "client")
    assert done.returncode == 78
    first, *reasons = done.stderr.splitlines()
    assert first == "aero: found no place for its libraries; AERO_CACHE can name a folder"
    folders = [
        host.cache,
        host.program / ".aero-cache",
        *(f"{shared}/aero-{os.geteuid()}" for shared in SHARED),
    ]
    for folder, reason in zip(folders, reasons):
        assert reason in (
            f"  {folder}: is mounted noexec",
            f"  {folder}: {os.path.dirname(folder)} does not exist",
        )
    assert reasons[-1].startswith("  memory: ")


@namespaces
def test_a_shared_folder_serves_when_home_is_read_only(host: Host) -> None:
    fresh = [f"mount -t tmpfs -o mode=1777 tmpfs {shared}" for shared in ("/dev/shm", "/var/tmp")]
    mounts = [remount(host.home, "ro"), remount(host.program, "ro"), *fresh]
    done = host.run_among(mounts, "--help", then="ls /var/tmp/*")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("aero-")


def test_300_megabytes_of_address_space_are_enough(host: Host) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (300_000 * 1024, 300_000 * 1024))  # ulimit -v 300000

    host.works(preexec_fn=limit)
    host.works(preexec_fn=limit)


def test_a_low_file_limit_is_enough(host: Host) -> None:
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    host.works(preexec_fn=limit)


def test_crons_empty_environment_is_enough(host: Host) -> None:
    host.works(env={"AERO_CACHE": str(host.folder / "cache")}, umask=0o077)
    assert is_good(host.folder / "cache", host.pyz)


def test_an_open_umask_leaves_nothing_open(host: Host) -> None:
    host.env["AERO_CACHE"] = str(host.folder / "cache")
    host.answers(umask=0)
    assert is_good(host.folder / "cache", host.pyz)


def test_a_relative_path_and_another_name_do(host: Host) -> None:
    (host.program / "aeroc").symlink_to("aero.pyz")
    done = subprocess.run(
        [PYTHON, "aeroc", "--help"], cwd=host.program, env=host.env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def aarch64() -> list[str]:
    """Return the command of a Python for aarch64 under qemu, or an empty list."""
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    root = Path(os.environ.get("AERO_TEST_AARCH64", CHECKOUT / ".build" / "aarch64"))
    pythons = sorted(glob.glob(str(root / "usr" / "bin" / "python3.*[0-9]")))
    return (
        [emulator, "-L", str(root), "-E", f"PYTHONHOME={root}/usr", pythons[0]]
        if emulator and pythons
        else []
    )


@pytest.mark.skipif(not aarch64(), reason="no Python for aarch64 here; tests/boot/get_aarch64.sh brings one")
def test_aarch64_under_qemu(host: Host) -> None:
    command = [*aarch64(), str(host.pyz), "demo", "--check"]
    done = subprocess.run(command, env=host.env, cwd="/", capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    assert [name for name in trees(host.cache) if name.endswith("-aarch64-gnu")]
