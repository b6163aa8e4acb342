"""The configurations that commands run with: the options of aero.config.table, and what depends on several of them.

This module must not know where the text came from (aero.config.sources), nor open sockets, nor log.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from aero.address import Address, is_ip, is_loopback
from aero.config import table, values
from aero.config.option import Options
from aero.config.targets import with_default
from aero.errors import ConfigError

R = TypeVar("R", bound=table.RoleOptions)


class ServerConfig(table.ServerOptions):
    """What a server runs with."""

    @classmethod
    def parse(cls, given: Options) -> ServerConfig:
        """Checks everything that was asked for. Raises ConfigError."""
        config = super().parse(given)
        _check_detach(config, given)
        api = config.api
        if isinstance(api, Address) and not config.api_token and not is_loopback(api.host):
            raise ConfigError(
                f"--api: {api} can be reached from elsewhere: set --api-token too, or write localhost:{api.port}"
            )
        if config.auth_next and not config.auth:
            raise ConfigError(
                f"{given.place('auth-next')} needs a code to change from, write --auth CODE too"
            )
        if config.tls_keys and len(config.tls_keys) != len(config.tls_certs):
            raise ConfigError(
                f"{given.place('tls-key')}: {len(config.tls_certs)} certificates and {len(config.tls_keys)} keys;"
                " give one --tls-key for each --tls-cert, in the same order"
            )
        wild = [glob for glob in config.target_domains if "*" in glob or "?" in glob]
        if wild and not config.domain and not set(config.mux_hosts) - {"*"}:
            warning = (
                f"{given.place('target-domains')} {wild[0]} may match the name of this server itself, which a target"
                " could claim then: name it by --mux-host"
            )
            config = config.replace(warnings=(*config.warnings, warning))
        if config.mux_tls and not config.tls_certs:
            raise ConfigError(f"{given.place('mux-tls')} needs a certificate, write --tls-cert FILE too")
        if config.hook_fails == "open" and not config.hook_asks:
            raise ConfigError(
                f"{given.place('hook-fails')} needs a hook that is asked, write --hook-asks URL too"
            )
        return config

    @property
    def tls_pairs(self) -> tuple[tuple[str, str], ...]:
        """Each certificate's file with its key's."""
        return tuple(zip(self.tls_certs, self.tls_keys or self.tls_certs))

    def lock_name(self) -> str:
        """What tells this server from others on this host: where workers dial it."""
        return f"server-{self.port}-{_digest(*self.ips)}"


class ClientConfig(table.ClientOptions):
    """What a worker runs with."""

    @classmethod
    def parse(cls, given: Options) -> ClientConfig:
        """Checks everything that was asked for. Raises ConfigError."""
        config = super().parse(given)
        _check_detach(config, given)
        if not config.targets and config.allow is None:  # with --allow, the server may add some
            raise ConfigError("no target is given, write for example --target web@127.0.0.1:80")
        _check_allowed(config)
        if config.zstd != "off":
            config = config.replace(targets=with_default(config.targets, "zstd", config.zstd))
        if config.user and not given.gives("tag"):
            config = config.replace(tag=config.user.partition("+")[0])
        if config.tls_insecure and not config.auth:
            place = given.place("tls-insecure")
            raise ConfigError(f"{place} needs a code, which is all that protects then: write --auth CODE too")
        idle = tuple(_idle(config, given))
        return config.replace(warnings=(*config.warnings, *idle)) if idle else config

    def ping(self, websocket: bool) -> int:
        """Seconds between signs of life on a link of that kind."""
        given = "ping_s" not in self.computed
        return self.ping_s if given or not websocket else min(self.ping_s, values.PING_WEBSOCKET_S)

    def lock_name(self) -> str:
        """What tells this worker from others: server, tag and targets; and the host, as homes can be shared."""
        return f"client-{self.tag}-{_digest(self.host, str(self.server), *sorted(map(str, self.targets)))}"


class DemoConfig(table.DemoOptions):
    """What a demo runs with."""


class ConsoleConfig(table.ConsoleOptions):
    """What asks a server's API."""


class ListConfig(table.ListOptions, ConsoleConfig):
    """What lists a server's workers; no ``tags``: all of them."""


class TrafficConfig(table.TrafficOptions, ConsoleConfig):
    """What shows a server's traffic of the past."""


class WorkerConfig(table.WorkerOptions, ConsoleConfig):
    """What asks about the worker ``cid``."""


class KickConfig(table.KickOptions, WorkerConfig):
    """What sends the worker ``cid`` away."""


class OpenConfig(table.OpenOptions, ConsoleConfig):
    """What opens a target, or closes it."""


class PageConfig(table.PageOptions, ConsoleConfig):
    """What asks where the page is."""


class PinConfig(table.PinOptions):
    """What asks which key a server shows."""


class InviteConfig(table.InviteOptions, ConsoleConfig):
    """What invites a worker."""

    @classmethod
    def parse(cls, given: Options) -> InviteConfig:
        """Checks everything that was asked for. Raises ConfigError."""
        config = super().parse(given)
        if not config.user:
            raise ConfigError("say whose worker it will be, write --user NAME: one of the server's users")
        return config


class TargetConfig(table.TargetOptions, ConsoleConfig):
    """What adds targets to workers that run."""


class InvitesConfig(table.InvitesOptions, ConsoleConfig):
    """What lists invitations, or withdraws one."""


class JoinConfig(table.JoinOptions):
    """What makes a worker of an invitation."""


class UsersConfig(table.UsersOptions):
    """What helps to write a file of users."""


class ServiceConfig(table.ServiceOptions):
    """What installs a service; the role's own options are a configuration of their own."""


def reloaded(old: R, new: R) -> tuple[R, list[str], list[str]]:
    """``old`` with what is ``new`` where that can change while it runs; which options did, and which need a restart."""
    differ = [
        each
        for each in old.OPTIONS
        if getattr(old, each.field) != getattr(new, each.field)
        and not (each.field in old.computed and each.field in new.computed)
    ]
    live = {each.field: getattr(new, each.field) for each in differ if each.live}
    config = old.replace(warnings=new.warnings, notes=new.notes, **live)
    return (
        config,
        [each.name for each in differ if each.live],
        [each.name for each in differ if not each.live],
    )


def _idle(config: ClientConfig, given: Options) -> Iterator[str]:
    """A line for each option of TLS or WebSocket that does nothing, as no way to the server has that."""
    ways = config.server.ways
    for options, used, schemes in (
        (("ca", "tls-pin", "tls-insecure", "tls-name"), any(way.by_tls for way in ways), "tls:// or wss://"),
        (("header", "ws-mask"), any(way.by_websocket for way in ways), "ws:// or wss://"),
    ):
        for name in options if not used else ():
            if getattr(config, config.known()[name].field):
                yield f"{given.place(name)} does nothing without a server by {schemes}"


def _check_allowed(config: ClientConfig) -> None:
    """Raises ConfigError for a target that --allow keeps out: by its address, or as one that has none.

    What a name's addresses are is seen at each connect.
    """
    if config.allow is None:
        return
    for target in config.targets:
        named = not target.path and not is_ip(target.host) and not is_loopback(target.host)
        somewhere = bool(target.path or target.port)
        if not somewhere or not (named or config.allow.covers(str(target.place))):
            raise ConfigError(f"target {target} is not in --allow {config.allow}")


def _check_detach(config: table.RoleOptions, given: Options) -> None:
    """Raises ConfigError for a background process without a log: nobody sees its stderr."""
    if config.detach and not config.log:
        raise ConfigError(f"{given.place('detach')} needs a log file, write --log FILE too")


def _digest(*texts: str) -> str:
    import hashlib

    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:12]
