"""The command line: picks the command, gathers its options, runs it, and turns its errors into exit codes.

The two roles are run here, every other command by aero.cli.commands; what they take stands in aero.config.table.
What is run is imported when it is run: --help and --version must answer without anything native.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Callable, TextIO

from aero import __version__
from aero.cli import help
from aero.config import filed, sources
from aero.config.hints import instead, shown
from aero.config.option import Options
from aero.config.roles import ClientConfig, ServerConfig
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
        daemon.end_start()
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


#: What runs until it is stopped, and has a table of its name in the configuration file. Every other command is one of
#: aero.cli.commands.
ROLES: dict[str, Callable[[Options], int]] = {"server": run_server, "client": run_client}
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
    known = word in help.PAGES
    # Before a command only the first word can ask for help: in "aero sever --help" the slip is the news.
    asked = words if known else words[:1]
    if sources.wants(asked, "help"):
        return _print(help.text(word if known else ""))
    if sources.wants(asked, "version"):
        return _print(f"AeRO-proxy {__version__}\n")
    if not known:
        raise ConfigError(_no_command(word))
    if word != "client":
        gc.enable()  # an archive has held it; a worker's start is in a hurry, and 0.2 MB of garbage stays for it
    if word in ROLES:
        return ROLES[word](gather(word, words[1:], os.environ))
    from aero.cli import commands

    said = commands.COMMANDS[word](words[1:], gather)
    _write(sys.stderr, said.aside)
    _print(said.text)
    return said.code


def _no_command(word: str) -> str:
    if not word:
        return "say what to run: aero server, aero client or aero demo; aero --help tells more"
    if word.startswith("-"):
        return f"options stand after a command, as in: aero client {shown(word)} ..., see aero --help"
    return f"unknown command {shown(word)}: {instead(word, help.PAGES)} (aero --help)"


def gather(word: str, argv: Sequence[str], environ: Mapping[str, str]) -> Options:
    """The options of one command from all their sources. Raises ConfigError."""
    options = help.PAGES[word][1]
    known, argument = options.known(), options.argument()
    everything = {name: kind.known() for name, (_, kind) in help.PAGES.items()}
    elsewhere = {option: name for name, declared in reversed(everything.items()) for option in declared}
    from_argv, others = sources.from_argv(argv, word, options, elsewhere)
    from_environment, warnings, notes = sources.from_environment(environ, options)
    given = sources.merge(known, from_argv, from_environment)
    file = sources.file_of(given)
    if file:
        tables = {name: help.PAGES[name][1] for name in ROLES}
        from_file, of_file = sources.from_file(file, word, tables)
        notes += of_file
        given = sources.merge(known, given, from_file)
    if word == "client" and not given.keys() & {"target", "allow"}:  # with --allow, the server may add some
        raise ConfigError("no target is given, write for example --target web@127.0.0.1:80")
    # Options alone are in the grammar, which is made of the same declarations: docopt's view of them would cost each
    # start 8 ms, and each process 0.3 MB.
    if others or argument:
        _judge(word, argument, sources.canonical(given), others)
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


def _judge(word: str, argument: str, options: Sequence[str], others: Sequence[str]) -> None:
    """Raises ConfigError where the grammar has no room for ``others``, the words that are no options."""
    import docopt

    try:
        docopt.docopt(grammar(word), [word, *options, *others], False)
    except docopt.DocoptExit:
        if argument and not others:
            raise ConfigError(f"say which worker: aero {word} CID; aero list shows them") from None
        extra = " ".join(map(shown, others[1:] if argument else others))
        raise ConfigError(f"unexpected {extra!r}: {_takes(word, argument, others)}") from None


def grammar(word: str) -> str:
    """A command's page without its examples, which are for people: docopt would take "--tag" in one for an option."""
    return help.text(word).partition("\nExamples:")[0]


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
