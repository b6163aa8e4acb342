"""The commands that do one thing and end: each takes the words behind its name, and gives what is to be printed.

Each imports what it needs when it runs.

To add one: its options in aero.config.table, a page in aero.cli.help, a line in `COMMANDS`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

from aero.config import filed
from aero.config.option import Options
from aero.config.roles import (
    DemoConfig,
    InviteConfig,
    InvitesConfig,
    KickConfig,
    ListConfig,
    OpenConfig,
    PageConfig,
    PinConfig,
    ServiceConfig,
    TargetConfig,
    TrafficConfig,
    UsersConfig,
    WorkerConfig,
)
from aero.errors import ConfigError

#: The options of a command, by its name, from its words and the environment (aero.cli.main).
Gather = Callable[[str, Sequence[str], Mapping[str, str]], Options]


class Printed(NamedTuple):
    """``text`` for stdout, ``aside`` for stderr, and the exit code."""

    text: str
    aside: str = ""
    code: int = 0


def run_demo(words: Sequence[str], gather: Gather) -> Printed:
    """``aero demo``."""
    config = DemoConfig.parse(gather("demo", words, os.environ))
    from aero.cli.demo import run

    return Printed("", code=run(config.check, config.aead))


def run_list(words: Sequence[str], gather: Gather) -> Printed:
    """``aero list``."""
    from aero.cli import console

    return Printed(console.listed(ListConfig.parse(gather("list", words, os.environ))))


def run_traffic(words: Sequence[str], gather: Gather) -> Printed:
    """``aero traffic``."""
    from aero.cli import traffic

    return Printed(traffic.shown(TrafficConfig.parse(gather("traffic", words, os.environ))))


def run_ping(words: Sequence[str], gather: Gather) -> Printed:
    """``aero ping``."""
    from aero.cli import console

    return Printed(console.pinged(WorkerConfig.parse(gather("ping", words, os.environ))))


def run_kick(words: Sequence[str], gather: Gather) -> Printed:
    """``aero kick``."""
    from aero.cli import console

    return Printed(console.kicked(KickConfig.parse(gather("kick", words, os.environ))))


def run_open(words: Sequence[str], gather: Gather) -> Printed:
    """``aero open``."""
    from aero.cli import console

    return Printed(console.opened(OpenConfig.parse(gather("open", words, os.environ)), os.environ))


def run_page(words: Sequence[str], gather: Gather) -> Printed:
    """``aero page``."""
    from aero.cli import console

    return Printed(console.page(PageConfig.parse(gather("page", words, os.environ))))


def run_pin(words: Sequence[str], gather: Gather) -> Printed:
    """``aero pin``."""
    from aero.server.links.certificates import pin_in

    config = PinConfig.parse(gather("pin", words, os.environ))
    return Printed(pin_in(config.tls_cert, config.state) + "\n")


def run_invite(words: Sequence[str], gather: Gather) -> Printed:
    """``aero invite``."""
    from aero.cli import invites

    return Printed(invites.invited(InviteConfig.parse(gather("invite", words, os.environ))))


def run_invites(words: Sequence[str], gather: Gather) -> Printed:
    """``aero invites``."""
    from aero.cli import invites

    return Printed(invites.listed(InvitesConfig.parse(gather("invites", words, os.environ))))


def run_join(words: Sequence[str], gather: Gather) -> Printed:
    """``aero join HOST:PORT CODE``: both stand before its options."""
    server, code = (*words[:2], "", "")[:2]
    if not server or not code or server.startswith("-") or code.startswith("-"):
        raise ConfigError(
            "say which server, and the code that aero invite has printed there: aero join HOST:8080 4-lantern-harbor"
        )
    from aero.cli import join

    given = gather("join", words[2:], os.environ)
    return Printed(join.joined(server, code, given, lambda argv: gather("client", argv, {})))


def run_target(words: Sequence[str], gather: Gather) -> Printed:
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
        return Printed(target.added(about[0], about[1], given))
    return Printed(target.removed(about[0], given) if about else target.listed(given))


def run_service(words: Sequence[str], gather: Gather) -> Printed:
    """``aero service install``: what follows the role's name are that role's options."""
    from aero.cli import service

    at = next((number for number, word in enumerate(words) if word in service.ROLES), len(words))
    if "install" not in words[:at] or at == len(words):
        raise ConfigError("say what to install: aero service install server, or client, and its options")
    wanted = ServiceConfig.parse(gather("service", words[:at], {}))
    role = service.role(words[at], gather(words[at], words[at + 1 :], os.environ))
    return Printed(service.install(wanted, role))


def run_users(words: Sequence[str], gather: Gather) -> Printed:
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
        return Printed(lines, aside)  # apart: the lines may be on their way into the file
    said, good = users.checked(filed.path(about))
    return Printed(said, code=0 if good else 2)


COMMANDS: dict[str, Callable[[Sequence[str], Gather], Printed]] = {
    "demo": run_demo,
    "list": run_list,
    "traffic": run_traffic,
    "ping": run_ping,
    "kick": run_kick,
    "open": run_open,
    "page": run_page,
    "pin": run_pin,
    "invite": run_invite,
    "invites": run_invites,
    "target": run_target,
    "join": run_join,
    "users": run_users,
    "service": run_service,
}
