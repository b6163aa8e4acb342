"""The help texts, which are the documentation of the command line and, through docopt, its grammar.

Only text lives here. Lines have at most 79 columns of plain ASCII; what stands under "Options:" comes from
aero.config.table.
"""

from __future__ import annotations

from aero import __version__
from aero.config.option import Config
from aero.config.roles import (
    ClientConfig,
    DemoConfig,
    InviteConfig,
    InvitesConfig,
    JoinConfig,
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
from aero.config.targetoptions import OPTIONS

TOP = """\
AeRO-proxy {version}: any TCP service behind NAT, reachable through one encrypted
multiplexed link.

Usage:
  aero server [options]
  aero client --target LIST... [options]
  aero demo [options]
  aero list [options]
  aero traffic [options]
  aero ping CID [options]
  aero kick CID [options]
  aero open TARGET [options]
  aero page [options]
  aero pin [options]
  aero users (check FILE | add NAME) [options]
  aero target (add TAG TARGET | remove TAG/NAME | list) [options]
  aero invite --user NAME [options]
  aero invites [options]
  aero join HOST:PORT CODE [options]
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
  traffic   What went through a server, by hour, day or month.
  ping      The round trip to one worker now.
  kick      Sends one worker away; it comes back after half a minute.
  open      Opens a target with access=closed for a time.
  pin       What workers say to --tls-pin, for TLS to this server.
  page      The address of a server's page, with the key to change things.
  users     Checks the file of a server's users, makes codes for new ones.
  target    Adds targets to workers that run, and takes them away.
  invite    A short code that makes a worker of another machine.
  invites   Who was invited and who came; withdraws both.
  join      At that machine: proves the code, writes a configuration.
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

Usage: aero server [--tls-cert FILE]... [--tls-key FILE]... [--hook URL]...
                   [options]

Options:
{options}
Examples:
  aero server --auth @/etc/aero/code --log /var/log/aero.log
  aero server --ip 0.0.0.0,:: --port 443 --ports 30000-30999 --api off
  AERO_AUTH=CODE aero server --mux :80 --domain aero.example.org
{sources}
{exits}"""

CLIENT = """\
The worker behind NAT: dials the server and offers local services there.

Usage: aero client [--target LIST]... [--header LINE]... [options]

Options:
{options}
Examples:
  aero client --server aero.example.org:8080 --auth @/etc/aero/code \\
              --tag nas --target web@127.0.0.1:80 --target ssh@127.0.0.1:22
  aero client --server HOST:8080 --target "db@[::1]:5432?remote=25432"
  AERO_AUTH=CODE aero client --config worker.toml
  * * * * * python3 aero.pyz client --lock --config worker.toml   (in crontab)

What may stand behind a target's ?, with & between (quote it for the shell), or
as keys of its table in the file:
{target_options}
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
{options}
Examples:
  aero demo
  aero demo --check && echo "this host can run AeRO-proxy"
"""

LIST = """\
The workers of a server and their targets, as its management API tells.

Usage: aero list [options]

Options:
{options}
Examples:
  aero list
  aero list --tags nas,lab --json
  aero list --api server.example.org:3000 --api-token @/etc/aero/token

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no.
"""

TRAFFIC = """\
What went through a server, by hour, day or month, as its management API tells.

Usage: aero traffic [options]

Options:
{options}
Examples:
  aero traffic
  aero traffic --by user --step month
  aero traffic --step hour --from 2026-11-26 --to 2026-11-27

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no.
"""

PING = """\
The round trip from a server to one of its workers, measured now.

Usage: aero ping CID [options]

Options:
{options}
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
{options}
Examples:
  aero kick c0123456789ab
  sudo aero kick c0123456789ab --state /var/lib/aero-server

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no (no such worker, wrong key), 78 the key cannot be read.
"""

OPEN = """\
Opens a target that its worker offers with access=closed: for a time, after
which it closes by itself.

Usage: aero open TARGET [options]

Options:
{options}
TARGET is TAG/NAME, or CID@/NAME for that of one worker.

Examples:
  aero open nas/ssh --for 30m --from me
  aero open nas/ssh --for 0 --cut

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no (no such target, it is public), 78 the key cannot be read.
"""

PAGE = """\
Prints the address of a server's page, with the key that changes need (or the
token of --api-token) behind its #, which browsers keep to themselves. Whoever
has this address may send workers away.

Usage: aero page [options]

Options:
{options}
Examples:
  aero page
  ssh -L 3000:localhost:3000 HOST sudo aero page --state /var/lib/aero-server

Exit codes: 0 done, 2 usage, 78 the key cannot be read.
"""

PIN = """\
Prints the pin of the key that a server on this host shows in TLS, as curl
writes it (--pinnedpubkey): workers say it to --tls-pin where no authority has
signed the certificate, as with the one that a server makes for itself.

Usage: aero pin [options]

Options:
{options}
Examples:
  aero pin
  aero pin --tls-cert /etc/aero/cert.pem

Exit codes: 0 done, 2 usage, 78 the certificate cannot be read or made.
"""

USERS = """\
For the file that aero server --users reads: check says everything that is wrong
with it, by line; add makes a code for a new user and prints the lines to put
there. No file is written.

Usage: aero users [options]

Options:
{options}
The file has a table for each user, and one for those who have the plain --auth
code, who are not let in without it. All keys but the first are optional.
  [default]
  ports = "20000-32767"
  [user.ci]
  verifier = "spake2plus$..."    # or auth = "@FILE", for up to 16 users
  tags = "ci-*"                  # globs; default: the user's name and NAME-*
  targets = "web,api-*"          # globs; groups = is alike
  domains = "*.ci.example.org"   # for ?domain=; without it --target-domains
  protocols = "tcp,http,udp"
  ports = "30000-30099,443"      # in place of --ports, and nobody else's
  max-workers = 4                # and max-targets, max-streams
  limit = "2MB"                  # a second; and worker-, target-, visitor-limit
  quota = "50GB/month"           # or /day; quota-grace = "5%"
  visitors = "10.0.0.0/8"        # who may visit; and deny-visitors
  expires = 2027-01-01

Examples:
  aero users check /etc/aero/users.toml
  aero users add ci >> /etc/aero/users.toml
  aero users add ci --auth @/etc/aero/ci

Exit codes: 0 done, 2 usage, or the file is not good.
"""

TARGET = """\
Adds a target to the running workers of a tag (TAG), or to one (CID@), which
decide by their --allow and then offer it as their own; takes it away; lists
what was added. For good, those of a tag are asked of all that come, also after
a restart of the server.

Usage: aero target [options]

Options:
{options}
Examples:
  aero target add nas db@127.0.0.1:5432 --for 1h
  aero target add c0123456789ab@ dns@127.0.0.1:53/udp
  aero target remove nas/db
  aero target list

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no (no worker takes it), 78 the key cannot be read.
"""

INVITE = """\
Invites a worker: prints a short code to be typed at the other machine, where it
is good once, for a time and for three tries. What joins by it has a credential
of its own, kept in the server's state; the file of users is not changed.

Usage: aero invite [options]

Options:
{options}
Examples:
  aero invite --user ci --tag nas --may 127.0.0.1:22 --for 10m
  sudo aero invite --user ci --words 4 --state /var/lib/aero-server

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no (no such user, not his tag), 78 the key cannot be read.
"""

INVITES = """\
The invitations of a server, and the credentials that came of them.

Usage: aero invites [options]

Options:
{options}
Examples:
  aero invites
  aero invites --withdraw 4
  aero invites --withdraw ci+k3j2x9ab

Exit codes: 0 done, 1 the API cannot be reached or has a fault, 2 usage, 3 the
API said no (no such invitation), 78 the key cannot be read.
"""

JOIN = """\
Makes a worker of this machine by a code of aero invite: proves it to the
server, which gets to know nothing of the code that the worker has from then on,
writes a configuration that only this user can read, and prints the command, the
cron line or the unit that keeps the worker running.

Usage: aero join [--target LIST]... [--header LINE]... [options]

Options:
{options}
Examples:
  aero join HOST:8080 4-lantern-harbor
  aero join wss://aero.example.org 4-lantern-harbor --target web@127.0.0.1:80

Exit codes: 0 done, 1 the server cannot be reached, 2 usage, 3 the server said
no (wrong, used or expired code), 78 the file cannot be written.
"""

SERVICE = """\
Prints what keeps a server or worker running on this host: as root where
systemd runs, a hardened unit; elsewhere a line for your crontab, which starts
it every minute unless it runs. Nothing is changed without --write.

Usage: aero service install [options]

Options:
{options}
Options of this command stand before the word server or client; after it stand
those that the service shall run with, also from the environment. A code that
is given as text goes to a file of its own, never onto a command line.

Examples:
  aero service install client --server HOST:8080 --auth @/etc/aero/code \\
                              --tag nas --target web@127.0.0.1:80
  aero service install --write server --auth @/etc/aero/code --port 443

Exit codes: 0 done, 1 systemd or cron said no, 2 usage, 78 this host cannot.
"""

SOURCES = """
Every option can also come from the environment (AERO_ and its name: AERO_AUTH,
AERO_LOG_SIZE; flags as 1 or 0) and from a file that --config or AERO_CONFIG
names. The command line beats the environment, the environment beats the file.
The file's table is [{table}], its keys are the options' names:
  [{table}]
{example}
SECONDS can have a unit: 30, 30s, 10m, 2h, 7d. SIZE is in bytes, or with K M G
or KiB MiB GiB (1024-based), KB MB GB (1000-based), kbit mbit gbit.
"""

EXITS = """
Exit codes: 0 stopped as asked, 1 any other failure, 2 usage, 3 the server said
no for good (wrong code, not allowed), 4 could not listen, 78 this host cannot
run it.
"""


#: What stands in a role's table of the configuration file, as an example.
FILES = {
    "server": '  auth = "@/etc/aero/code"\n  port = 443\n  debug = true',
    "client": '  tag = "nas"\n  target = ["web@127.0.0.1:80", "ssh@127.0.0.1:22"]\n'
    '  once = false\n  [client.targets.db]\n  address = "[::1]:5432"\n  remote = 25432',
}

#: Command → its help text, and what may stand behind its name. "" is the whole program.
PAGES: dict[str, tuple[str, type[Config]]] = {
    "server": (SERVER, ServerConfig),
    "client": (CLIENT, ClientConfig),
    "demo": (DEMO, DemoConfig),
    "list": (LIST, ListConfig),
    "traffic": (TRAFFIC, TrafficConfig),
    "ping": (PING, WorkerConfig),
    "kick": (KICK, KickConfig),
    "open": (OPEN, OpenConfig),
    "page": (PAGE, PageConfig),
    "pin": (PIN, PinConfig),
    "users": (USERS, UsersConfig),
    "target": (TARGET, TargetConfig),
    "invite": (INVITE, InviteConfig),
    "invites": (INVITES, InvitesConfig),
    "join": (JOIN, JoinConfig),
    "service": (SERVICE, ServiceConfig),
}


def text(command: str) -> str:
    """The help of a command, or of the whole program for "", as printed and as docopt reads it."""
    if not command:
        return TOP.format(version=__version__, exits=EXITS)
    page, options = PAGES[command]
    example = FILES.get(command, "")
    return page.format(
        options=options.help_lines(),
        target_options="".join(each.help_lines() for each in OPTIONS.values()),
        sources=SOURCES.format(table=command, example=example),
        exits=EXITS.strip("\n") + "\n",
    )
