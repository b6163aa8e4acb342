"""`aero service install`: what it prints for which host, and that no code ever stands on a command line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aero.cli import main as cli
from aero.cli import service
from aero.config.roles import ClientConfig
from aero.errors import AeroError

WEB = ["client", "--server", "h:1", "--tag", "nas", "--target", "web@127.0.0.1:80"]


class Host:
    """A host as the tests want it: who we are, what runs it, where this program lies."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = monkeypatch
        self.program = folder / "aero.pyz"
        self.program.touch()
        monkeypatch.setattr(sys, "argv", [str(self.program)])
        monkeypatch.setattr(sys, "executable", "/usr/bin/env")
        monkeypatch.setattr(service, "_check_readable", lambda path: None)
        monkeypatch.setattr(service, "_code_folder", lambda: str(folder / "codes"))
        monkeypatch.setattr(service, "UNITS", str(folder))
        monkeypatch.setenv("XDG_STATE_HOME", str(folder / "state"))
        self.be(uid=1000, systemd=False)

    def be(self, uid: int, systemd: bool) -> None:
        self.patch.setattr(os, "geteuid", lambda: uid)
        self.patch.setattr(service, "has_systemd", lambda: systemd)

    def has(self, name: str, script: str) -> None:
        """Put a shell script in the place of a program."""
        folder = self.folder / "bin"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
        self.patch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def install(capsys: pytest.CaptureFixture[str], *argv: str, code: int = 0) -> str:
    """What the command says: stdout, or stderr where it is to fail."""
    assert cli.main(["service", "install", *argv], "aero") == code, capsys.readouterr().err
    out, err = capsys.readouterr()
    assert err == "" if code == 0 else out == ""
    return out if code == 0 else err


def cron_words(line: str) -> list[str]:
    """What the shell makes of a line of crontab: all but the five fields of the time."""
    assert line.startswith("* * * * * ")
    assert line.count("\n") == 1
    plain = line[len("* * * * * ") :].replace(r"\%", "\0")
    assert "%" not in plain, "cron would end the command there"
    return shlex.split(plain.replace("\0", "%"), comments=True)


def unit_words(unit: str) -> list[str]:
    """What systemd makes of ExecStart, but for variables."""
    value = unit.partition("ExecStart=")[2].partition("\nExecReload")[0].replace("\\\n", " ")
    return [word.replace("%%", "%") for word in shlex.split(value)]


def copy_commands(unit: str) -> list[str]:
    """What the shell is given at the start and at a reload."""
    found = re.findall(r"^(?:ExecStartPre|ExecReload)=\+/bin/sh -c (.*)$", unit, re.M)
    assert len(found) == 2
    return [
        each[1:-1].replace("%%", "%").replace("$$", "$").replace('\\"', '"').replace("\\\\", "\\")
        for each in found
    ]


def copies(unit: str) -> dict[str, str]:
    """File → its copy, as the unit makes them."""
    words = shlex.split(copy_commands(unit)[0])
    return {
        words[at + 5]: words[at + 6]
        for at, word in enumerate(words)
        if word == "install" and words[at + 1] == "-m"
    }


def test_a_user_gets_a_line_for_cron(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    line = install(capsys, *WEB)
    assert cron_words(line) == [
        "/usr/bin/env", str(host.program), "client", "--target=web@127.0.0.1:80", "--server=h:1", "--tag=nas",
        "--lock", "--detach", f"--log={host.folder}/state/aero/aero-client-nas.log",
    ]  # fmt: skip
    assert line.endswith(" # aero-client-nas\n")


def test_files_of_targets_are_found_from_everywhere(
    host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (host.folder / "fields").write_text("X-Key: a\n")
    monkeypatch.chdir(host.folder)
    words = cron_words(install(capsys, *WEB, "--target", "app@127.0.0.1:81?header-set=@fields&weight=2"))
    assert f"--target=app@127.0.0.1:81?header-set=@{host.folder}/fields&weight=2" in words
    assert "--target=web@127.0.0.1:80" in words


def test_the_line_is_one_that_we_understand(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    words = cron_words(install(capsys, *WEB, "--ping", "5", "--lock", "/l k", "--debug", "--log", "r%l"))
    config = ClientConfig.parse(cli.gather("client", words[3:], {}))
    assert config.detach
    assert config.debug
    assert (config.lock, config.log, config.ping_s) == ("/l k", str(Path("r%l").absolute()), 5)


def test_root_with_systemd_gets_a_unit(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.be(uid=0, systemd=True)
    unit = install(capsys, *WEB, "--log", "/l", "--detach", "--lock", "--state", "/s", "--ping", "5")
    assert unit_words(unit) == [
        "/usr/bin/env", str(host.program), "client",
        "--target=web@127.0.0.1:80", "--server=h:1", "--tag=nas", "--ping=5",
    ]  # fmt: skip
    assert "Description=AeRO-proxy worker nas\n" in unit
    assert "DynamicUser=yes\n" in unit
    assert "\nCapabilityBoundingSet=\n" in unit
    assert "ExecStartPre" not in unit


@pytest.mark.parametrize("options", [["--port", "443"], ["--mux", ":80"], ["--ports", "100-200"]])
def test_only_a_server_on_a_low_port_keeps_a_capability(
    host: Host, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    assert "CAP_NET_BIND_SERVICE" not in install(capsys, "--systemd", "server")
    unit = install(capsys, "--systemd", "server", *options)
    assert "CapabilityBoundingSet=CAP_NET_BIND_SERVICE\nAmbientCapabilities=CAP_NET_BIND_SERVICE\n" in unit


@pytest.mark.parametrize("form", ["--systemd", "--cron"])
@pytest.mark.parametrize("place", ["argument", "environment"])
def test_a_code_as_text_shows_nowhere(
    host: Host, capsys: pytest.CaptureFixture[str], form: str, place: str
) -> None:
    if place == "environment":
        host.patch.setenv("AERO_AUTH", "geheim")
    text = install(capsys, form, *WEB, *(["--auth", "geheim"] if place == "argument" else []))
    assert "geheim" not in text
    first, rest = text.split("\n", 1)
    file = f"{host.folder}/codes/aero-client-nas.auth"
    assert first.startswith(f"# First put the code into {file}: (umask 077;")
    assert file in rest


def test_a_code_from_a_file(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    code = host.folder / "code"
    code.write_text("geheim\n")
    code.chmod(0o600)
    assert f"--auth=@{code}" in cron_words(install(capsys, "--cron", *WEB, "--auth", f"@{code}"))
    unit = install(capsys, "--systemd", *WEB, "--auth", f"@{code}")
    assert copies(unit) == {f"{code}": "/run/aero-client-nas.d/auth"}
    assert "--auth=@/run/aero-client-nas.d/auth" in unit_words(unit)


def test_the_unit_of_a_server_carries_the_users(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    unit = install(capsys, "--systemd", "server", "--users", "/etc/aero/users.toml", "--port", "8443")
    folder = "/run/aero-server.d"
    assert copies(unit) == {"/etc/aero/users.toml": f"{folder}/users"}
    assert f"--users={folder}/users" in unit_words(unit)
    assert "--users=/etc/aero/users.toml" in cron_words(
        install(capsys, "--cron", "server", "--users", "/etc/aero/users.toml")
    )


def test_a_configuration_file_keeps_what_stands_in_it(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    code, file = host.folder / "code", host.folder / "worker.toml"
    code.write_text("geheim\n")
    code.chmod(0o600)
    file.write_text(f'[client]\ntag = "nas"\ntarget = "web@127.0.0.1:80"\nauth = "@{code}"\n')
    words = cron_words(install(capsys, "--cron", "client", "--config", str(file), "--ping", "5"))
    assert f"--config={file}" in words
    assert "--ping=5" in words
    assert not [word for word in words if word.startswith(("--tag", "--target"))]
    unit = install(capsys, "--systemd", "client", "--config", str(file))
    folder = "/run/aero-client-nas.d"
    # The unit's user could read neither of them where they are.
    assert copies(unit) == {f"{code}": f"{folder}/auth", f"{file}": f"{folder}/config"}
    assert unit_words(unit)[3:] == [f"--auth=@{folder}/auth", f"--config={folder}/config"]


@pytest.mark.parametrize("name", ["code", "my code", "100%", "it's", 'a"b', "$HOME", "back\\slash"])
def test_what_root_copies_for_the_services_user(
    host: Host, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """The unit's own command, run by a shell: at the start, and again when the file has changed."""
    code = host.folder / name
    code.write_text("geheim\n")
    code.chmod(0o600)
    (word,) = set(copy_commands(install(capsys, "--systemd", *WEB, "--auth", f"@{code}")))
    state, folder = host.folder / "var", host.folder / "run"
    state.mkdir()
    command = word.replace("/var/lib/aero-client-nas", str(state)).replace(
        "/run/aero-client-nas.d", str(folder)
    )
    for content in ("geheim\n", "another\n"):
        code.write_text(content)
        assert subprocess.run(["/bin/sh", "-c", command], check=False).returncode == 0
        assert (folder / "auth").read_text() == content
        assert stat.S_IMODE((folder / "auth").stat().st_mode) == 0o400
        assert stat.S_IMODE(folder.stat().st_mode) == 0o711


def test_words_that_systemd_would_take_apart(host: Host) -> None:
    words = ["plain", "two words", "100%", "$HOME", 'a"b', "back\\slash", "a;b", "it's"]
    quoted = [service._quoted(word) for word in words]
    assert quoted == [
        "plain", '"two words"', "100%%", "$$HOME", '"a\\"b"', '"back\\\\slash"', '"a;b"', '"it\'s"',
    ]  # fmt: skip


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
@pytest.mark.parametrize(
    "role",
    [
        ["server", "--auth", "x", "--port", "443"],
        [*WEB, "--auth", "x"],
        [*WEB, "--auth", "@{folder}/100% sure %s"],
    ],
)
def test_systemd_likes_the_unit(
    host: Host, capsys: pytest.CaptureFixture[str], tmp_path: Path, role: list[str]
) -> None:
    unit = tmp_path / "aero-test.service"
    (host.folder / "100% sure %s").write_text("geheim\n")
    (host.folder / "100% sure %s").chmod(0o600)
    role = [word.replace("{folder}", str(host.folder)) for word in role]
    unit.write_text(install(capsys, "--systemd", *role))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_a_program_that_the_units_user_cannot_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "private"
    secret.mkdir(mode=0o700)
    (secret / "aero.pyz").touch()
    monkeypatch.setattr(sys, "executable", "/usr/bin/env")
    monkeypatch.setattr(sys, "argv", [str(secret / "aero.pyz")])
    said = install(capsys, "--systemd", *WEB, code=78)
    assert said.startswith(f"aero: the service's user could not read {secret}/aero.pyz: install it where")


def test_write_replaces_the_earlier_line_and_no_other(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    table = host.folder / "table"
    table.write_text(
        "MAILTO=me\n0 4 * * * backup\n* * * * * old # aero-client-nas\n* * * * * x # aero-client-n\n"
    )
    host.has("crontab", f"case $1 in -l) cat {table} ;; -) cat > {table}.new; mv {table}.new {table} ;; esac")
    for _ in range(2):
        assert "crontab now starts aero-client-nas" in install(
            capsys, "--cron", "--write", *WEB, "--auth", "geheim"
        )
    lines = table.read_text().splitlines(keepends=True)
    assert lines[:3] == ["MAILTO=me\n", "0 4 * * * backup\n", "* * * * * x # aero-client-n\n"]
    file = host.folder / "codes" / "aero-client-nas.auth"
    assert f"--auth=@{file}" in cron_words(lines[3])
    assert len(lines) == 4
    assert file.read_text() == "geheim\n"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_write_into_an_empty_crontab_and_one_that_refuses(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    host.has("crontab", f"[ $1 = - ] && cat > {host.folder}/table")
    install(capsys, "--cron", "--write", *WEB)
    assert (host.folder / "table").read_text().startswith("* * * * * ")
    host.has("crontab", "echo you are not allowed >&2; exit 1")
    said = install(capsys, "--cron", "--write", *WEB, code=1)
    assert said == "aero: crontab - failed: you are not allowed\n"


def test_write_a_unit(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.be(uid=0, systemd=True)
    host.has("systemctl", f'echo "$@" >> {host.folder}/calls')
    said = install(capsys, "--write", *WEB, "--auth", "geheim")
    unit = host.folder / "aero-client-nas.service"
    assert said.startswith(f"{unit} is installed and started; see: systemctl status aero-client-nas")
    assert "geheim" not in unit.read_text()
    assert (host.folder / "codes" / "aero-client-nas.auth").read_text() == "geheim\n"
    calls = (host.folder / "calls").read_text().splitlines()
    assert calls == ["daemon-reload", "enable aero-client-nas", "restart aero-client-nas"]


def test_a_unit_needs_root(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    said = install(capsys, "--write", "--systemd", *WEB, "--auth", "geheim", code=2)
    assert said.startswith("aero: writing a systemd unit needs root: use sudo, or --cron")
    assert not (host.folder / "codes").exists(), "nothing is half done"


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("", "say what to install: aero service install server, or client, and its options"),
        ("install", "say what to install"),
        ("client", "say what to install"),
        ("install --cron --systemd server", "--systemd and --cron exclude each other"),
        (
            "install server --write",
            "an option of aero service, not of aero server: write it before that word",
        ),
        ("install client", "no target is given"),
        ("install --wirte server", "unknown option --wirte: did you mean --write?"),
        ("install now server", "unexpected 'install now'"),
    ],
)
def test_slips(host: Host, capsys: pytest.CaptureFixture[str], argv: str, line: str) -> None:
    assert cli.main(["service", *argv.split()], "aero") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert line in err


def test_how_it_was_started_is_how_it_will_be(host: Host, tmp_path: Path) -> None:
    checkout = tmp_path / "co"
    (checkout / "aero").mkdir(parents=True)
    main = checkout / "aero" / "__main__.py"
    assert service.program(str(main)) == ["/usr/bin/env", "-m", "aero"]
    (checkout / "aero.py").touch()
    assert service.program(str(main)) == ["/usr/bin/env", str(checkout / "aero.py")]
    assert service.program("aero.pyz") == ["/usr/bin/env", str(Path("aero.pyz").absolute())]


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AeroError, match="cannot write"):
        service.write_secrets([service.Secret("auth", str(tmp_path / "file" / "code"), "x")])
