"""The command line as people, cron and older users write it, and what it answers to every slip."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docopt
import pytest

from aero import __version__
from aero.cli import help
from aero.cli import main as cli
from aero.config.roles import ClientConfig, ServerConfig
from aero.errors import AeroError, ConfigError, DialError, HostError, ListenError, Rejected

ROOT = Path(__file__).resolve().parents[2]
WEB = ["--target", "web@127.0.0.1:80"]


class Roles:
    """Stands in for the roles: keeps what each was started with; ``raises`` is what they raise."""

    def __init__(self) -> None:
        self.started: list[tuple[Any, ...]] = []
        self.raises: BaseException | None = None

    def run(self, *arguments: Any) -> int:
        """Start a role."""
        self.started.append(arguments)
        if self.raises:
            raise self.raises
        return 0

    @property
    def config(self) -> Any:
        """What the only role was started with."""
        ((config, *_),) = self.started  # the others say when it is set up, and read everything again
        return config


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch) -> Iterator[Roles]:
    stand_in = Roles()
    for name in ("aero.server.app", "aero.worker.app", "aero.cli.demo"):
        module = types.ModuleType(name)
        vars(module)["run"] = stand_in.run
        monkeypatch.setitem(sys.modules, name, module)
    for variable in [variable for variable in os.environ if variable.startswith("AERO_")]:
        monkeypatch.delenv(variable)
    return stand_in


def slip(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    """The one line that a wrong command line gets."""
    assert cli.main(argv, "aero") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("aero: ")
    assert err.count("\n") == 1
    return err[len("aero: ") : -1]


def process(*argv: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a real process in the checkout, with no variables of ours."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AERO_")}
    settings = {"capture_output": True, "env": environ, "cwd": ROOT, **settings}
    return subprocess.run([sys.executable, *argv], text=True, timeout=60, check=False, **settings)


def test_server_gets_its_options(roles: Roles) -> None:
    assert (
        cli.main(["server", "--ip", "0.0.0.0", "--port", "8081", "--auth", "CODE", "--api=off"], "aero") == 0
    )
    assert isinstance(roles.config, ServerConfig)
    assert (roles.config.port, roles.config.auth, roles.config.api) == (8081, "CODE", None)


def test_client_gets_its_options(roles: Roles) -> None:
    argv = [
        "client",
        "--tag",
        "nas",
        "--server",
        "[::1]:80",
        "--target",
        "a@h:1,b@h:2",
        "--target",
        "c@h:3",
        "--once",
    ]
    assert cli.main(argv, "aero") == 0
    assert isinstance(roles.config, ClientConfig)
    assert [target.name for target in roles.config.targets] == ["a", "b", "c"]
    assert (roles.config.tag, str(roles.config.server), roles.config.once) == ("nas", "[::1]:80", True)


def test_demo_gets_its_options(roles: Roles) -> None:
    assert cli.main(["demo", "--check", "--aead", "openssl"], "aero") == 0
    assert cli.main(["demo"], "aero") == 0
    assert roles.started == [(True, "openssl"), (False, "")]


@pytest.mark.parametrize("command", ["server", "client"])
def test_defaults_in_the_help_are_the_defaults(roles: Roles, command: str) -> None:
    cli.main([command, *(WEB if command == "client" else [])], "aero")
    base: Any = ServerConfig() if command == "server" else ClientConfig()
    computed = ("host", "targets", "state")
    for field, value in base.fields().items():
        assert field in computed or getattr(roles.config, field) == value


@pytest.mark.parametrize("prog", ["aeros", "/usr/bin/aeros", "aeros.py", "./aeros.pyz"])
def test_the_files_name_can_mean_server(roles: Roles, prog: str) -> None:
    assert cli.main(["-port", "81"], prog) == 0
    assert roles.config.port == 81


@pytest.mark.parametrize("prog", ["aeroc", "/usr/bin/aeroc.pyz"])
def test_the_files_name_can_mean_client(roles: Roles, prog: str) -> None:
    assert cli.main(["-target", "web@127.0.0.1:80"], prog) == 0
    assert isinstance(roles.config, ClientConfig)


def test_a_symlink_means_what_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "aeroc").symlink_to(ROOT / "aero.py")
    done = process(str(tmp_path / "aeroc"), "--help")
    assert "Usage: aero client" in done.stdout


@pytest.mark.parametrize("command", ["server", "client", "demo"])
def test_every_long_option_works_with_one_dash(roles: Roles, command: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("-----BEGIN CERTIFICATE-----")
    samples = {
        "zstd": "auto",
        "lock": str(tmp_path / "lock"),
        "ip": "::", "port": "1", "auth": "code", "ports": "1-2", "api": "off", "mux": "off", "mux-tls": "off",
        "tls-cert": "/c.pem", "tls-key": "/k.pem",
        "domain": "d.org", "resume": "7", "drain": "3", "lease-days": "9", "run-as": "nobody",
        "api-token": "token", "auth-next": "code-2", "trust-proxy": "10.0.0.0/8", "proxy-protocol": "::1",
            "mux-head": "16K", "mux-host": "a.org", "target-domains": "b.org", "mux-idle": "9",
        "state": "/s", "log": "/l", "log-format": "json", "log-size": "1M", "aead": "openssl",
        "congestion": "cubic",
        "memory": "64M", "link-path": "/p", "tag": "nas", "user": "ci", "allow": "127.0.0.1:*", "users": "users.toml",
        "access-log": "/a", "listen-unix": "/s", "access-log-format": "json", "hook": "http://h/", "hook-secret": "s",
        "hook-lost": "3", "hook-asks": "http://h/ask", "hook-fails": "open",
        "target": "web@127.0.0.1:80", "server": "h:1", "proxy": "http://p:1", "tls-pin": "ab" * 32, "tls-name": "n.org",
            "header": "X-Token: x", "ca": str(tmp_path / "ca.pem"), "host": "box", "ping": "5", "pool": "2",
    }  # fmt: skip
    known = help.PAGES[command][1].known()
    # --detach would fork these tests; tests/test_daemon.py has it.
    names = [name for name in known if name not in ("help", "version", "config", "detach")]
    double, single, equals = [], [], []
    for name in names:
        value = [samples[name]] if known[name].metavar else []
        double += [f"--{name}", *value]
        single += [f"-{name}", *value]
        equals += ["=".join([f"-{name}", *value])]
    for argv in (double, single, equals):
        assert cli.main([command, *argv], "aero") == 0
    first, second, third = [arguments[0] for arguments in roles.started]
    assert first == second == third
    assert first != type(first)()


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        ("", "say what to run: aero server, aero client or aero demo"),
        ("sever", "unknown command sever: did you mean server? (aero --help)"),
        ("sever --help", "unknown command sever: did you mean server?"),
        ("xyzzy", "unknown command xyzzy: known are server, client, demo"),
        ("-tag nas", "options stand after a command"),
        ("client --taget x", "unknown option --taget: did you mean --target?"),
        ("client -taget=x", "unknown option -taget: did you mean --target?"),
        ("client --log_size=1M", "unknown option --log_size: did you mean --log-size?"),
        ("client --qqq", "unknown option --qqq: aero client --help lists them"),
        ("client --", "unknown option --: aero client --help lists them"),
        ("client --tar x", "unknown option --tar: did you mean --target?"),
        ("server --taget x", "unknown option --taget: did you mean --target, an option of aero client?"),
        ("server -p 80", "unknown option -p: aero server --help lists them"),
        ("ping", "say which worker: aero ping CID"),
        ("ping nobody", "CID: "),
        ("server --target x", "--target is an option of aero client, not of aero server"),
        ("client", "no target is given, write for example --target"),
        ("client --target", "--target needs a value, write --target LIST"),
        ("client --tag --once", "--tag needs a value, write --tag NAME"),
        ("server --port=", "--port is empty, write --port PORT or leave it out"),
        ("server --port 1 -port 2", "--port is given twice, write it once"),
        ("server --user aero", "--user: write --run-as NAME, the user of this host that the server becomes"),
        ("client --target web@[::1]:80 --user b_b", "--user: 'b_b' is not a name"),
        ("server --debug=1", "--debug takes no value, write --debug alone"),
        ("server --lock=", "--lock is empty, write --lock [FILE] or leave it out"),
        ("server --lock --lock", "--lock is given twice, write it once"),
        ("server --lock a b", "unexpected 'b': aero server takes options only"),
        (
            "client --target a@h:1 b@h:2",
            "unexpected 'b@h:2': put a comma between targets, or --target before each",
        ),
        ("server --detach", "--detach needs a log file, write --log FILE too"),
        ("server --port 65536", "--port: '65536' is not a port"),
        ("server x y", "unexpected 'x y': aero server takes options only"),
        ("server -", "unexpected '-': aero server takes options only"),
        ("server client", "unexpected 'client': aero server takes options only"),
        ("client --target a@h:1,a@h:2", "the name 'a' stands for both a@h:1 and a@h:2"),
        ("client --target a@h:1?foo=1", "unknown option 'foo', known are remote"),
        ("demo --aead rot13", "--aead: 'rot13' is unknown, write cryptography,"),
        (
            "server --auth @/nonexistent",
            "cannot read the code from '/nonexistent': No such file or directory",
        ),
        ("server --config /nonexistent", "cannot read /nonexistent: No such file or directory"),
        ("server --ip \x1b]0;x\x07", "--ip: '\\x1b]0;x\\x07' is not an IP address"),
        ("server --\x1b[2J", "unknown option '--\\x1b[2J'"),
    ],
)
def test_slips(roles: Roles, capsys: pytest.CaptureFixture[str], argv: str, line: str) -> None:
    assert line in slip(capsys, *argv.split())
    assert roles.started == []


def test_a_value_may_begin_with_a_dash(roles: Roles) -> None:
    assert cli.main(["server", "--auth", "-x-"], "aero") == 0
    assert roles.config.auth == "-x-"
    assert cli.main(["server", "--auth=--debug"], "aero") == 0
    assert roles.started[1][0].auth == "--debug"


def test_environment(roles: Roles, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in {
        "AUTH": "geheim",
        "TARGET": "a@h:1,b@h:2",
        "LOG_SIZE": "1M",
        "ONCE": "yes",
        "DEBUG": "0",
    }.items():
        monkeypatch.setenv(f"AERO_{variable}", value)
    assert cli.main(["client"], "aero") == 0
    config = roles.config
    assert (config.auth, len(config.targets), config.log_size, config.once, config.debug) == (
        "geheim",
        2,
        1 << 20,
        True,
        False,
    )


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("AERO_AUTH", "", "AERO_AUTH is empty, give it a value or unset it"),
        ("AERO_DEBUG", "", "AERO_DEBUG is empty, give it a value or unset it"),
        ("AERO_DEBUG", "maybe", "AERO_DEBUG: maybe is neither on nor off, write 1 or 0"),
        ("AERO_PORT", "x", "AERO_PORT: 'x' is not a port"),
        ("AERO_USER", "aero", "AERO_USER: write --run-as NAME"),
    ],
)
def test_slips_in_the_environment(
    roles: Roles,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    line: str,
) -> None:
    monkeypatch.setenv(variable, value)
    assert line in slip(capsys, "server")


def test_command_line_beats_environment_beats_file_beats_default(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "aero.toml"
    file.write_text(
        '[client]\ntag = "file"\nhost = "file"\npool = 3\nonce = true\ntarget = ["f@h:1", "g@h:2"]\n'
        "[server]\nport = 1\n"
    )
    monkeypatch.setenv("AERO_CONFIG", str(file))
    monkeypatch.setenv("AERO_TAG", "environment")
    monkeypatch.setenv("AERO_HOST", "environment")
    monkeypatch.setenv("AERO_ONCE", "0")
    assert cli.main(["client", "--tag", "argv"], "aero") == 0
    config = roles.config
    assert (config.tag, config.host, config.pool, config.ping_s, config.once) == (
        "argv",
        "environment",
        3,
        60,
        False,
    )
    assert [target.name for target in config.targets] == ["f", "g"]
    assert cli.main(["client", *WEB], "aero") == 0
    assert [target.name for target in roles.started[1][0].targets] == ["web"]  # replaced, not added


def test_the_server_has_a_table_of_its_own(roles: Roles, tmp_path: Path) -> None:
    file = tmp_path / "aero.toml"
    file.write_text('[server]\nip = ["::", "0.0.0.0"]\nport = 81\ndebug = true\n[client]\ntag = "x"\n')
    assert cli.main(["server", "--config", str(file)], "aero") == 0
    assert (roles.config.ips, roles.config.port, roles.config.debug) == (("::", "0.0.0.0"), 81, True)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("[sever]\n", "unknown table [sever]: did you mean server?"),
        ("port = 1\n", "unknown table [port]: known are server, client"),
        ("server = 1\n", "server is not a table, write [server]"),
        ("[server]\nuser = 'aero'\n", "[server] user: write --run-as NAME"),
        (
            "[client]\ntargets = 'x'\n",
            "[client] targets: write a table for each, for example [client.targets.web]",
        ),
        ("[client.targets]\nweb = 'h:1'\n", "[client] targets: write a table for each"),
        ("[client.targets.web]\naddress = true\n", "[client] targets.web address: write a string, a number"),
        ("[server]\nprot = 1\n", "[server] prot: unknown option, did you mean port?"),
        ("[client]\ntaget = 'x'\n", "[client] taget: unknown option, did you mean target?"),
        ("[server]\nlog_size = '1M'\n", "[server] log_size: unknown option, did you mean log-size?"),
        ("[server]\nconfig = 'x'\n", "[server] config: unknown option"),
        ("[server]\nport = 99999\n", "[server] port: '99999' is not a port"),
        ("[server]\nport = true\n", '[server] port: write a string, for example port = "PORT"'),
        ("[server]\nport = ''\n", "[server] port: write a string"),
        ("[server]\ndebug = 1\n", "[server] debug: write true or false"),
        ("[client]\ntarget = []\n", "[client] target: write one string or a list of strings"),
        ("[client]\ntarget = [1]\n", "[client] target: write one string or a list of strings"),
        ("[server\n", "cannot read "),
        ("\xff", "cannot read "),
        ("#" * (1 << 20) + "\n", "is larger than"),
    ],
)
def test_slips_in_the_file(
    roles: Roles, capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, line: str
) -> None:
    file = tmp_path / "aero.toml"
    file.write_text(content)
    told = slip(capsys, "server", "--config", str(file))
    assert line in told
    assert str(file) in told


def test_targets_of_the_file_are_lists_and_tables(roles: Roles, tmp_path: Path) -> None:
    file = tmp_path / "aero.toml"
    file.write_text(
        '[client]\ntarget = "a@h:1"\n[client.targets.db]\naddress = "h:2"\nremote = 25432\n'
        '[client.targets.Web]\naddress = "[::1]:80"\n'
    )
    assert cli.main(["client", "--config", str(file)], "aero") == 0
    assert [str(each) for each in roles.config.targets] == ["a@h:1", "db@h:2?remote=25432", "web@[::1]:80"]
    assert cli.main(["client", "--config", str(file), "--target", "b@h:3"], "aero") == 0
    assert [str(each) for each in roles.started[1][0].targets] == ["b@h:3"]


def test_invisible_bytes_in_a_file(roles: Roles, tmp_path: Path) -> None:
    file = tmp_path / "aero.toml"
    file.write_bytes(b"\xef\xbb\xbf[server]\r\nport = 81 \r\n")
    assert cli.main(["server", "--config", str(file)], "aero") == 0
    assert roles.config.port == 81
    assert [str(file) in note for note in roles.config.notes] == [True]


@pytest.mark.parametrize("value", ["tcp://10.96.12.3:8080", "udp://10.96.12.3:8080"])
def test_what_kubernetes_sets_for_a_service_named_aero(
    roles: Roles, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("AERO_PORT", value)
    assert cli.main(["server", "--strict"], "aero") == 0
    assert roles.config.port == 8080
    assert roles.config.warnings == (
        f"AERO_PORT={value} is not for us but tells where a service is: ignored",
    )


def test_a_file_that_is_no_text(roles: Roles, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "aero.toml"
    file.write_bytes(b"\xff\xfe")
    assert "is not UTF-8 text" in slip(capsys, "server", "--config", str(file))


@pytest.mark.parametrize(("mode", "code", "warnings"), [(0o644, "geheim", 1), (0o600, "geheim", 0)])
def test_a_file_with_a_code_that_others_can_read_is_a_warning(
    roles: Roles, tmp_path: Path, mode: int, code: str, warnings: int
) -> None:
    file = tmp_path / "aero.toml"
    file.write_text(f'[server]\nauth = "{code}"\n')
    file.chmod(mode)
    assert cli.main(["server", "--config", str(file)], "aero") == 0
    assert (roles.config.auth, len(roles.config.warnings)) == ("geheim", warnings)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2),
        (Rejected(1, "x", final=True), 3),
        (ListenError("x"), 4),
        (HostError("x"), 78),
        (DialError("x"), 1),
        (AeroError("x"), 1),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    roles: Roles, capsys: pytest.CaptureFixture[str], error: AeroError, code: int
) -> None:
    roles.raises = error
    assert cli.main(["server"], "aero") == code
    assert capsys.readouterr().err == "aero: x\n"


def test_an_error_that_quotes_a_hostile_server_stays_one_line(
    roles: Roles, capsys: pytest.CaptureFixture[str]
) -> None:
    roles.raises = Rejected(1, "no\n\x1b[31m", final=True)
    assert cli.main(["client", *WEB], "aero") == 3
    assert capsys.readouterr().err == "aero: no\\n\\x1b[31m\n"


@pytest.mark.parametrize(
    "argv", [["--version"], ["-version"], ["server", "--version"], ["client", "-version"]]
)
def test_version(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    assert cli.main(argv, "aero") == 0
    assert capsys.readouterr().out == f"AeRO-proxy {__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-help", "-h"])
@pytest.mark.parametrize("command", ["", "server", "client", "demo"])
def test_help(capsys: pytest.CaptureFixture[str], command: str, flag: str) -> None:
    argv = [command, "--port", "x", flag] if command == "server" else [command, flag] if command else [flag]
    assert cli.main(argv, "aero") == 0
    assert capsys.readouterr().out == help.text(command)


@pytest.mark.parametrize("argv", [["--version"], ["--help"], ["server", "--help"], ["client", "--help"]])
def test_help_and_version_import_nothing_native(argv: list[str]) -> None:
    code = (
        "import sys\nfrom aero.cli.main import main\n"
        f"assert main({argv!r}, 'aero') == 0\n"
        "heavy = {'gevent', 'greenlet', 'Crypto', 'cryptography', 'bottle', 'sqlite3', 'logging', 'docopt'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = process("-c", code)
    assert (done.returncode, done.stderr) == (0, "[]\n")


def test_help_into_a_pipe_that_nobody_reads() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = process("aero.py", "--help", capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_onto_a_full_disk_is_a_failure() -> None:
    with open("/dev/full", "w") as full:
        done = process("aero.py", "--help", capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (1, "aero: cannot write the output: No space left on device\n")


def test_standard_descriptors_that_were_closed_are_filled() -> None:
    def close_all() -> None:
        os.closerange(0, 3)

    code = "import os\nfrom aero.cli.main import main\nmain(['--help'], '')\nos.fstat(2)\nos._exit(main(['x'], ''))"
    done = process("-c", code, capture_output=False, preexec_fn=close_all)
    assert done.returncode == 2


def test_as_a_module_and_as_a_file() -> None:
    for argv in (["-m", "aero"], ["aero.py"]):
        done = process(*argv, "server", "--prot", "1")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "aero: unknown option --prot: did you mean --port?\n"


def test_a_slip_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom aero.cli.main import main\nassert main(['client', '--target', 'x'], 'aero') == 2\n"
        "heavy = {'gevent', 'Crypto', 'cryptography', 'bottle', 'sqlite3', 'tomllib', 'tomli'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert process("-c", code).stdout == "[]\n"


@pytest.mark.parametrize("word", [word for word in help.PAGES if word])
def test_docopt_would_take_every_option(word: str) -> None:
    """It is not asked where there is nothing else: so its grammar has to have what the declarations have."""
    options = help.PAGES[word][1]
    known, argument = options.known(), options.argument()
    argv = [f"--{name}={name}" if each.metavar else f"--{name}" for name, each in known.items()]
    repeated = [f"--{name}={name}" for name, each in known.items() if each.repeats]
    words = ["service", "install"] if word == "service" else [word, argument] if argument else [word]
    found = docopt.docopt(cli.grammar(word), [*words, *argv, *repeated], False)
    for name, each in known.items():
        assert found[f"--{name}"] == ([name, name] if each.repeats else name if each.metavar else True)


@pytest.mark.parametrize(
    ("argv", "package"),
    [
        (["client", *WEB, "word"], "docopt-ng"),
        (["kick", "c1"], "docopt-ng"),
        (["client", *WEB], "pycryptodome"),
        (["server"], "gevent"),
        (["demo", "--check"], "gevent"),
    ],
)
def test_a_checkout_without_its_packages_says_how_to_get_them(argv: list[str], package: str) -> None:
    done = process("-S", "aero.py", *argv)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr == (
        f"aero: this Python lacks the package {package}: pip install . gets it, and ./build_pyz.sh makes an aero.pyz "
        "that needs none\n"
    )
