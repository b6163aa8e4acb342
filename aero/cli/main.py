"""The command line: picks the command, gathers its options, runs it, and turns its errors into exit codes.

What the commands are is a table here; what they take stands in aero.config.table.
Commands import what they run when they run it: --help and --version must answer without anything native.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Callable, NamedTuple, TextIO

from aero import __version__
from aero.cli import help
from aero.config import filed, sources
from aero.config.hints import instead, shown
from aero.config.option import Options
from aero.config.roles import (
    ClientConfig,
    DemoConfig,
    InviteConfig,
    InvitesConfig,
    KickConfig,
    ListConfig,
    OpenConfig,
    PageConfig,
    PinConfig,
    ServerConfig,
    ServiceConfig,
    TargetConfig,
    TrafficConfig,
    UsersConfig,
    WorkerConfig,
)
from aero.errors import AeroError, Busy, ConfigError, HostError, ListenError, Rejected

if TYPE_CHECKING:
    from aero.host import lock

OK, FAILED = 0, 1
EXIT_CODES: tuple[tuple[type[AeroError], int], ...] = (
    (ConfigError, 2),
    (Rejected, 3),
    (ListenError, 4),
    (HostError, 78),  # EX_CONFIG of sysexits.h
    (AeroError, FAILED),
)


#: Runs a role to its end; what it is given is to be called once the role is set up.
Start = Callable[[Callable[[], None]], int]


class Command(NamedTuple):
    """One word after ``aero``. ``reads_file``: it has a table of its name in the configuration file."""

    run: Callable[[Options], int]
    reads_file: bool = False


def run_server(given: Options) -> int:
    """``aero server``."""
    config = ServerConfig.parse(given)

    def start(started: Callable[[], None]) -> int:
        from aero.server.app import run

        return run(config, started, lambda: ServerConfig.parse(given.again()))

    return _run_role(config, start)


def run_client(given: Options) -> int:
    """``aero client``."""
    config = ClientConfig.parse(given)

    def start(started: Callable[[], None]) -> int:
        from aero.core.stretch import Stretching

        stretching = Stretching(config.auth, config.user)  # takes as long as the imports that follow
        from aero.worker.app import run

        return run(config, started, lambda: ClientConfig.parse(given.again()), stretching.result)

    return _run_role(config, start)


def _run_role(config: ServerConfig | ClientConfig, start: Start) -> int:
    """Runs a role, alone if that is asked for, in the background if that is."""
    if config.lock is None:
        return _run_where(config, start, None)
    from aero.host import lock

    try:
        held = lock.take(config.lock, config.lock_name(), config.state)
    except Busy as busy:
        if config.debug:
            _write(sys.stderr, f"aero: nothing to do: {busy}\n")
        return OK
    try:
        return _run_where(config, start, held)
    finally:
        held.release()


def _run_where(config: ServerConfig | ClientConfig, start: Start, held: lock.Held | None) -> int:
    """Runs a role here or in the background."""
    from aero.host import daemon

    changes_user = isinstance(config, ServerConfig) and config.run_as != ""
    caller = daemon.detach(config.log, changes_user) if config.detach else None
    if held is not None:
        held.sign()

    def started() -> None:
        daemon.trim_memory()
        if caller is not None:
            caller.release()

    if caller is None:
        return start(started)
    try:
        code = start(started)
    except AeroError as error:
        code = _complain(error)
    caller.answer(code)
    return code


def run_demo(given: Options) -> int:
    """``aero demo``."""
    config = DemoConfig.parse(given)
    from aero.cli.demo import run

    return run(config.check, config.aead)


def run_list(given: Options) -> int:
    """``aero list``."""
    from aero.cli import console

    return _print(console.listed(ListConfig.parse(given)))


def run_traffic(given: Options) -> int:
    """``aero traffic``."""
    from aero.cli import traffic

    return _print(traffic.shown(TrafficConfig.parse(given)))


def run_ping(given: Options) -> int:
    """``aero ping``."""
    from aero.cli import console

    return _print(console.pinged(WorkerConfig.parse(given)))


def run_kick(given: Options) -> int:
    """``aero kick``."""
    from aero.cli import console

    return _print(console.kicked(KickConfig.parse(given)))


def run_open(given: Options) -> int:
    """``aero open``."""
    from aero.cli import console

    return _print(console.opened(OpenConfig.parse(given), os.environ))


def run_invite(given: Options) -> int:
    """``aero invite``."""
    from aero.cli import invites

    return _print(invites.invited(InviteConfig.parse(given)))


def run_invites(given: Options) -> int:
    """``aero invites``."""
    from aero.cli import invites

    return _print(invites.listed(InvitesConfig.parse(given)))


def run_join(words: Sequence[str]) -> int:
    """``aero join HOST:PORT CODE``: both stand before its options."""
    server, code = (*words[:2], "", "")[:2]
    if not server or not code or server.startswith("-") or code.startswith("-"):
        raise ConfigError(
            "say which server, and the code that aero invite has printed there: aero join HOST:8080 4-lantern-harbor"
        )
    from aero.cli import join

    given = gather("join", words[2:], os.environ)
    return _print(join.joined(server, code, given, lambda argv: gather("client", argv, {})))


def run_target(words: Sequence[str]) -> int:
    """``aero target add TAG NAME@HOST:PORT``, ``aero target remove TAG/NAME``, ``aero target list``."""
    count = {"add": 3, "remove": 2, "list": 1}.get(words[0] if words else "", 0)
    about = words[1:count]
    if not count or len(about) != count - 1 or any(each.startswith("-") for each in about):
        raise ConfigError(
            "say what to do: aero target add TAG NAME@HOST:PORT, remove TAG/NAME, or list; see aero target --help"
        )
    from aero.cli import target

    given = TargetConfig.parse(gather("target", words[count:], os.environ))
    if words[0] == "add":
        return _print(target.added(about[0], about[1], given))
    return _print(target.removed(about[0], given) if about else target.listed(given))


def run_page(given: Options) -> int:
    """``aero page``."""
    from aero.cli import console

    return _print(console.page(PageConfig.parse(given)))


def run_pin(given: Options) -> int:
    """``aero pin``."""
    from aero.server.links.certificates import pin_in

    config = PinConfig.parse(given)
    return _print(pin_in(config.tls_cert, config.state) + "\n")


def run_service(words: Sequence[str]) -> int:
    """``aero service install``: what follows the role's name are that role's options."""
    from aero.cli import service

    at = next((number for number, word in enumerate(words) if word in service.ROLES), len(words))
    if "install" not in words[:at] or at == len(words):
        raise ConfigError("say what to install: aero service install server, or client, and its options")
    wanted = ServiceConfig.parse(gather("service", words[:at], {}))
    role = service.role(words[at], gather(words[at], words[at + 1 :], os.environ))
    return _print(service.install(wanted, role))


def run_users(words: Sequence[str]) -> int:
    """``aero users check FILE`` and ``aero users add NAME``."""
    given = UsersConfig.parse(gather("users", words[2:], {}))
    what, about = (*words[:2], "", "")[:2]
    if what not in ("check", "add") or not about or about.startswith("-"):
        raise ConfigError(
            "say what to do: aero users check FILE, or aero users add NAME; see aero users --help"
        )
    from aero.cli import users

    if what == "add":
        lines, aside = users.added(about, given)
        _write(sys.stderr, aside)  # not where the lines go: they may be on their way into the file
        return _print(lines)
    said, good = users.checked(filed.path(about))
    _print(said)
    return OK if good else next(code for kind, code in EXIT_CODES if kind is ConfigError)


#: To add a command: its options in aero.config.table, a page in aero.cli.help, a line here.
COMMANDS = {
    "server": Command(run_server, reads_file=True),
    "client": Command(run_client, reads_file=True),
    "demo": Command(run_demo),
    "list": Command(run_list),
    "traffic": Command(run_traffic),
    "ping": Command(run_ping),
    "kick": Command(run_kick),
    "open": Command(run_open),
    "page": Command(run_page),
    "pin": Command(run_pin),
    "invite": Command(run_invite),
    "invites": Command(run_invites),
    "target": Command(lambda _: OK),  # as users
    "join": Command(lambda _: OK),  # as users
    "users": Command(lambda _: OK),  # a word and what it is about stand before its options: see _dispatch
    "service": Command(lambda _: OK),  # it has two sets of options: see _dispatch
}
#: What a checkout needs of others: the module, and what its package is called.
PACKAGES = {
    "bottle": "bottle",
    "Crypto": "pycryptodome",
    "docopt": "docopt-ng",
    "gevent": "gevent",
    "tomli": "tomli",
}
#: Names of the file (a symlink, say) that stand for a command.
ALIASES = {"aeros": "server", "aeroc": "client"}


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs a command line (without the program's name, which is ``prog``). Returns the exit code."""
    _open_standard_streams()
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _dispatch(words, os.path.basename(sys.argv[0] if prog is None else prog))
    except AeroError as error:
        return _complain(error)
    except ModuleNotFoundError as error:
        package = PACKAGES.get((error.name or "").partition(".")[0])
        if package is None:
            raise
        return _complain(
            HostError(
                f"this Python lacks the package {package}: pip install . gets it, and ./build_pyz.sh makes an aero.pyz "
                "that needs none"
            )
        )


def _complain(error: AeroError) -> int:
    """Says it on stderr; the exit code."""
    # A message can quote what someone else wrote; it stays one line all the same.
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in f"aero: {error}")
    _write(sys.stderr, line + "\n")
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def _dispatch(words: list[str], prog: str) -> int:
    stem, _, ending = prog.rpartition(".")
    name = stem if ending in ("py", "pyz") else prog
    if name in ALIASES:
        words.insert(0, ALIASES[name])
    word = words[0] if words else ""
    command = COMMANDS.get(word)
    # Before a command only the first word can ask for help: in "aero sever --help" the slip is the news.
    asked = words if command else words[:1]
    if sources.wants(asked, "help"):
        return _print(help.text(word if command else ""))
    if sources.wants(asked, "version"):
        return _print(f"AeRO-proxy {__version__}\n")
    if command is None:
        raise ConfigError(_no_command(word))
    if word == "users":
        return run_users(words[1:])
    if word == "target":
        return run_target(words[1:])
    if word == "join":
        return run_join(words[1:])
    if word == "service":
        return run_service(words[1:])
    return command.run(gather(word, words[1:], os.environ))


def _no_command(word: str) -> str:
    if not word:
        return "say what to run: aero server, aero client or aero demo; aero --help tells more"
    if word.startswith("-"):
        return f"options stand after a command, as in: aero client {shown(word)} ..., see aero --help"
    return f"unknown command {shown(word)}: {instead(word, COMMANDS)} (aero --help)"


def gather(word: str, argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options of one command from all their sources. Raises ConfigError."""
    import docopt

    options = help.PAGES[word][1]
    known, argument = options.known(), options.argument()
    everything = {name: kind.known() for name, (_, kind) in help.PAGES.items()}
    elsewhere = {option: name for name, declared in reversed(everything.items()) for option in declared}
    from_argv, others = sources.from_argv(argv, word, options, elsewhere)
    from_environment, warnings, notes = sources.from_environment(environ, options)
    given = sources.merge(known, from_argv, from_environment)
    file = sources.file_of(given)
    if file:
        tables = {name: help.PAGES[name][1] for name, command in COMMANDS.items() if command.reads_file}
        from_file, of_file = sources.from_file(file, word, tables)
        notes += of_file
        given = sources.merge(known, given, from_file)
    if word == "client" and not given.keys() & {"target", "allow"}:  # with --allow, the server may add some
        raise ConfigError("no target is given, write for example --target web@127.0.0.1:80")
    try:
        # What follows the options is for people: docopt would take an example's "--tag" for a declaration.
        grammar = help.text(word).partition("\nExamples:")[0]
        docopt.docopt(grammar, [word, *sources.canonical(given), *others], False)
    except docopt.DocoptExit:
        if argument and not others:
            raise ConfigError(f"say which worker: aero {word} CID; aero list shows them") from None
        extra = " ".join(map(shown, others[1:] if argument else others))
        raise ConfigError(f"unexpected {extra!r}: {_takes(word, argument, others)}") from None
    gathered = Options(
        {name: where.value for name, where in given.items()} | ({argument: others[0]} if argument else {}),
        {name: where.place for name, where in given.items()}
        | ({argument: argument.upper()} if argument else {}),
    )
    codes = [given[name] for name in known if known[name].secret and name in given]
    if any(file and code.place.startswith(file) and not str(code.value).startswith("@") for code in codes):
        gathered.exposed += filed.readable_by_others(file)
    gathered.warnings += warnings
    gathered.notes += notes
    gathered.gather = partial(gather, word, argv, environ)
    return gathered


def _takes(word: str, argument: str, others: Sequence[str]) -> str:
    if word == "client" and "@" in others[0]:
        return "put a comma between targets, or --target before each"
    return (
        f"aero {word} takes {f'one {argument.upper()} and ' if argument else ''}options only, see its --help"
    )


def _open_standard_streams() -> None:
    """Fills closed standard descriptors, lest a socket becomes number 2 and a peer reads our log."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number: this one


def _print(text: str) -> int:
    error = _write(sys.stdout, text)
    if error and not isinstance(error, BrokenPipeError):  # whoever pipes into head has what he wanted
        raise AeroError(f"cannot write the output: {error.strerror}")
    return OK


def _write(stream: TextIO | None, text: str) -> OSError | None:
    """Writes and flushes now; on failure sends the rest to nowhere, or the interpreter would complain at exit."""
    if stream is None:  # its descriptor was closed when Python started
        return None
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        return error
    return None
