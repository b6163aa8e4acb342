"""The help texts, which are the documentation of the command line and, through docopt, its grammar.

Only text lives here. Lines have at most 79 columns of plain ASCII; defaults are filled in from aero.config.roles,
each written down once. What stands under "Options:" is also what environment and file may set.
"""

from __future__ import annotations

from aero import __version__
from aero.config.roles import ClientConfig, ConsoleConfig, ServerConfig
from aero.config.values import size_text

TOP = """\
AeRO-proxy {version}: any TCP service behind NAT, reachable through one encrypted
multiplexed link.

Usage:
  aero server [options]
  aero client --target LIST... [options]
  aero demo [options]
  aero list [options]
  aero ping CID [options]
  aero kick CID [options]
  aero service install [options] (server | client) [its options]
  aero COMMAND --help
  aero --help | --version
  python3 aero.pyz --verify

Commands:
  server    The public side: accepts workers and listens for their visitors.
  client    The worker behind NAT: dials the server, offers local services.
  demo      Both sides and a small service in one process, to see it work and
            to test this host.
  list      The workers of a server and their targets.
  ping      The round trip to one worker now.
  kick      Sends one worker away; it comes back after half a minute.
  service   A systemd unit or cron line that keeps one of the two running.

Examples:
  On the reachable host:
    aero server --auth CODE
  Behind NAT, to offer a web server and ssh of this machine:
    aero client --tag nas --server HOST:8080 --auth CODE \\
                --target web@127.0.0.1:80,ssh@127.0.0.1:22
  The worker prints the address that visitors use for each of the two.

--verify checks the one file against itself, before it replaces another, say.
A file (or symlink) named aeros runs as "aero server", aeroc as "aero client".
Options can be written with one dash too: -tag nas, -tag=nas.
{exits}"""

SERVER = """\
The public side: accepts workers and listens for their visitors.

Usage: aero server [options]

Options:
  --ip LIST          Addresses to listen on, for workers and visitors
                     [default: {ip}]
  --port PORT        Port that workers dial; 0 takes any free one
                     [default: {port}]
  --auth CODE        Code that workers must know, or @FILE to read it from a
                     file. Without one, any worker is let in.
  --ports LO-HI      Ports that targets get; 0 leaves the choice to the system
                     [default: {ports}]
  --api HOST:PORT    Management API and page, or off [default: {api}]
  --api-token CODE   Token that the API asks for, or @FILE to read it from a
                     file; needed where others than this machine can reach it
  --mux HOST:PORT    HTTP to targets by path or subdomain, or off
                     [default: {mux}]
  --domain NAME      The mux serves http://TAG.TARGET.NAME/ instead of
                     http://MUX/TAG/TARGET/
  --trust-proxy LIST
                     Networks (10.0.0.0/8,::1) of proxies before the mux: what
                     they say of visitors (X-Forwarded-For, ...) is passed on
  --resume SECONDS   How long a worker whose link broke may come back to its
                     open streams; 0 resets them at once [default: {resume}]
  --drain SECONDS    How long open streams may go on after SIGTERM
                     [default: {drain}]
  --user NAME        Become this user once every port is bound (needs root)
{common}
Examples:
  aero server --auth @/etc/aero/code --log /var/log/aero.log
  aero server --ip 0.0.0.0,:: --port 443 --ports 30000-30999 --api off
  AERO_AUTH=CODE aero server --mux :80 --domain aero.example.org
{sources}
{exits}"""

CLIENT = """\
The worker behind NAT: dials the server and offers local services there.

Usage: aero client --target LIST... [options]

Options:
  --target LIST      Services to offer, separated by commas; may repeat. Each
                     is NAME@HOST:PORT or NAME:HOST:PORT, IPv6 as
                     NAME@[::1]:80; ?remote=PORT at its end asks the server
                     for that port.
  --server HOST:PORT
                     The server to dial [default: {server}]
  --auth CODE        The server's code, or @FILE to read it from a file
  --tag NAME         This worker's name: letters, digits, hyphens. Workers may
                     share one; requests go round. [default: {tag}]
  --host NAME        The host name to show (default: this machine's)
  --ping SECONDS     Between signs of life, 1 to 3600; a link that is silent
                     for twice as long is replaced [default: {ping}]
  --pool N           Parallel links to the server, 1 to 16 [default: {pool}]
  --once             Do not retry: end when the first link ends or fails
{common}
Examples:
  aero client --server aero.example.org:8080 --auth @/etc/aero/code \\
              --tag nas --target web@127.0.0.1:80 --target ssh@127.0.0.1:22
  aero client --server HOST:8080 --target "db@[::1]:5432?remote=25432"
  AERO_AUTH=CODE aero client --config worker.toml
  * * * * * python3 aero.pyz client --lock --config worker.toml   (in crontab)

A worker does not give up: it dials again after at most 30 seconds, and after a
wrong code every 30 seconds or more, unless --once is given.
{sources}
{exits}"""

DEMO = """\
Server, worker and a small HTTP service in one process, on free ports of this
machine: fetches a page through the tunnel, prints what it did and every
address, and stays up until Ctrl-C.

Usage: aero demo [options]

Options:
  --check            Exit after the self-test: 0 it works, 1 it does not
  --aead NAME        Encryption library: cryptography, openssl or pycryptodome
                     (default: the fastest that works here)
  -h, --help         Show this text
  --version          Show the version

Examples:
  aero demo
  aero demo --check && echo "this host can run AeRO-proxy"
"""

LIST = """\
The workers of a server and their targets, as its management API tells.

Usage: aero list [options]

Options:
  --tags LIST        Only workers with one of these tags, separated by commas
  --json             The API's answer as it is
{asking}
Examples:
  aero list
  aero list --tags nas,lab --json
  aero list --api server.example.org:3000 --api-token @/etc/aero/token

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no.
"""

PING = """\
The round trip from a server to one of its workers, measured now.

Usage: aero ping CID [options]

Options:
{asking}
Examples:
  aero ping c0123456789ab

Exit codes: 0 it answered, 1 no answer, or the API cannot be reached, 2 usage,
3 the API said no (no such worker, wrong token).
"""

KICK = """\
Sends one worker away: no new visitors from now on, open streams have a few
seconds to end. The worker comes back by itself, but not before half a minute.

Usage: aero kick CID [options]

Options:
{asking}
Examples:
  aero kick c0123456789ab

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no (no such worker, wrong token).
"""

SERVICE = """\
Prints what keeps a server or worker running on this host: as root where
systemd runs, a hardened unit; elsewhere a line for your crontab, which starts
it every minute unless it runs. Nothing is changed without --write.

Usage: aero service install [options]

Options:
  --write            Install it: write the unit and start it, or add the line to
                     your crontab in place of an earlier one
  --systemd          A systemd unit, wherever this is
  --cron             A line for crontab, wherever this is
  -h, --help         Show this text
  --version          Show the version

Options of this command stand before the word server or client; after it stand
those that the service shall run with, also from the environment. A code that
is given as text goes to a file of its own, never onto a command line.

Examples:
  aero service install client --server HOST:8080 --auth @/etc/aero/code \\
                              --tag nas --target web@127.0.0.1:80
  aero service install --write server --auth @/etc/aero/code --port 443

Exit codes: 0 done, 1 systemd or cron said no, 2 usage, 78 this host cannot.
"""

ASKING = """\
  --api HOST:PORT    Where the server's API listens [default: {api}]
  --api-token CODE   The API's token, or @FILE to read it from a file; other
                     users of this machine see what stands on a command line
  -h, --help         Show this text
  --version          Show the version
"""

COMMON = """\
  --state DIR        Where to keep what survives a restart (default:
                     ~/.local/state/aero, for root /var/lib/aero)
  --config FILE      Read options from a TOML file too, see below
  --log FILE         Log to a file instead of stderr
  --log-format NAME  text, or json for machines [default: {log_format}]
  --log-size SIZE    Begin a new log file at this size; one old one stays as
                     FILE.1 [default: {log_size}]
  --lock [FILE]      Exit 0 at once where another start holds the same lock, as
                     every minute under cron. The word that follows is FILE
                     unless it begins with a dash. (default: a file named after
                     {lock_name}, in the state directory)
  --detach           Go on in the background once all is set up; needs --log
  --strict           Refuse to start where others can read a file with the code
  --debug            Log much more
  --aead NAME        Encryption library, for diagnosis and benchmarks:
                     cryptography, openssl or pycryptodome (default: the
                     fastest that works here)
  -h, --help         Show this text
  --version          Show the version
"""

SOURCES = """
Every option can also come from the environment (AERO_ and its name: AERO_AUTH,
AERO_LOG_SIZE; flags as 1 or 0) and from a file that --config or AERO_CONFIG
names. The command line beats the environment, the environment beats the file.
The file's table is [{table}], its keys are the options' names:
  [{table}]
{example}
"""

EXITS = """
Exit codes: 0 stopped as asked, 1 any other failure, 2 usage, 3 the server said
no for good (wrong code, not allowed), 4 could not listen, 78 this host cannot
run it.
"""


def text(command: str) -> str:
    """The help of a command, or of the whole program for "", as printed and as docopt reads it."""
    return TEXTS[command]()


def _top() -> str:
    return TOP.format(version=__version__, exits=EXITS)


def _demo() -> str:
    return DEMO


def _list() -> str:
    return LIST.format(asking=ASKING.format(api=ConsoleConfig().api))


def _ping() -> str:
    return PING.format(asking=ASKING.format(api=ConsoleConfig().api))


def _kick() -> str:
    return KICK.format(asking=ASKING.format(api=ConsoleConfig().api))


def _service() -> str:
    return SERVICE


def _server() -> str:
    config = ServerConfig()
    return SERVER.format(
        ip=",".join(config.ips),
        port=config.port,
        ports="{}-{}".format(*config.ports),
        api=config.api,
        mux=config.mux,
        resume=config.resume_s,
        drain=config.drain_s,
        common=_common(config),
        sources=SOURCES.format(
            table="server", example='  auth = "@/etc/aero/code"\n  port = 443\n  debug = true'
        ),
        exits=EXITS.strip("\n") + "\n",
    )


def _client() -> str:
    config = ClientConfig()
    return CLIENT.format(
        server=config.server,
        tag=config.tag,
        ping=config.ping_s,
        pool=config.pool,
        common=_common(config),
        sources=SOURCES.format(
            table="client",
            example='  tag = "nas"\n  target = ["web@127.0.0.1:80", "ssh@127.0.0.1:22"]\n  once = false',
        ),
        exits=EXITS.strip("\n") + "\n",
    )


def _common(config: ServerConfig | ClientConfig) -> str:
    named_after = "addresses and port" if isinstance(config, ServerConfig) else "server, tag and targets"
    return COMMON.format(
        log_format=config.log_format, log_size=size_text(config.log_size), lock_name=named_after
    )


TEXTS = {
    "": _top,
    "server": _server,
    "client": _client,
    "demo": _demo,
    "list": _list,
    "ping": _ping,
    "kick": _kick,
    "service": _service,
}
