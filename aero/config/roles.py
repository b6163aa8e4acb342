"""What can be configured: every option of both roles with its default, frozen.

This module puts checked values (aero.config.values) together into ServerConfig and ClientConfig. It must not know
where the text came from (a command line, the environment, a file: aero.cli.main), nor open sockets, nor log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable, NamedTuple, TypeVar, Union

from aero.address import Address, Target, check_tag, host, is_loopback
from aero.config import values
from aero.errors import ConfigError

T = TypeVar("T")
V = TypeVar("V")
Raw = Union[str, bool, list[str], None]


class Options:
    """Raw option values by name (``log-size``), and how messages call each (``--log-size``)."""

    def __init__(self, given: Mapping[str, Raw], places: Mapping[str, str] | None = None) -> None:
        self._given = given
        self._places = places or {}
        self.warnings: list[str] = []
        self.gather: Callable[[], Options] | None = None

    def raw(self) -> dict[str, tuple[Raw, str]]:
        """Every option that some source gives, with its raw value and how messages call it."""
        return {option: (self._given.get(option), place) for option, place in self._places.items()}

    def flag(self, option: str) -> bool:
        """Whether a flag is set."""
        return bool(self._given.get(option))

    def take(self, option: str, parse: Callable[[str], T], default: T) -> T:
        """The checked value of an option, or ``default`` where it is not given."""
        value = self._given.get(option)
        if not isinstance(value, str):
            return default
        return self._placed(option, parse, value)

    def take_list(self, option: str, parse: Callable[[list[str]], T]) -> T:
        """The checked value of an option that may repeat; no value gives an empty list to ``parse``."""
        value = self._given.get(option)
        if isinstance(value, str):
            value = [value]
        return self._placed(option, parse, value if isinstance(value, list) else [])

    def idle(self, part: str, names: tuple[str, ...]) -> list[str]:
        """Warnings for options that are given while what they are for is switched off by ``--part off``."""
        off = self._given.get(part) == "off"
        return [
            f"{self._place(name)} does nothing while {self._place(part)} is off"
            for name in names
            if off and self._given.get(name)
        ]

    def again(self) -> Options:
        """The same options, gathered anew from where they came from. Raises ConfigError."""
        if self.gather is None:
            raise ConfigError("these options have no source to be read from again")
        return self.gather()

    def detach(self) -> bool:
        """The flag ``--detach``, which needs a log, since nobody sees a background process' stderr."""
        if self.flag("detach") and not self._given.get("log"):
            raise ConfigError(f"{self._place('detach')} needs a log file, write --log FILE too")
        return self.flag("detach")

    def take_auth(self, option: str = "auth") -> str:
        """The code of ``--auth``, or of another option, "" where none is given.

        Extends ``warnings``, which ``--strict`` makes errors.
        """
        no_code: tuple[str, tuple[str, ...]] = ("", ())
        code, warnings = self.take(option, values.auth_code, no_code)
        self.warnings += warnings
        if self.flag("strict") and self.warnings:
            raise ConfigError(self.warnings[0])
        return code

    def _placed(self, option: str, parse: Callable[[V], T], value: V) -> T:
        try:
            return parse(value)
        except ConfigError as error:
            raise ConfigError(f"{self._place(option)}: {error}") from None

    def _place(self, option: str) -> str:
        return self._places.get(option, "--" + option)


# ----------------------------------------------------------------------------
# The two configurations
# ----------------------------------------------------------------------------


class ServerConfig(NamedTuple):
    """What a server runs with.

    ``api`` and ``mux`` are None when off; ``ports`` are the first and last port for mappings ((0, 0): the
    system chooses); ``log`` is "" for stderr, ``log_size`` is in bytes; ``state`` is "" when nothing can be
    kept; ``aead`` is "" for the fastest backend; ``lock`` is None for no lock, "" for the default one
    (`lock_name`); ``detach`` comes with a ``log`` only; ``warnings`` are lines for the log.
    """

    ips: tuple[str, ...] = ("0.0.0.0",)
    port: int = 8080
    auth: str = ""
    api: Address | None = Address("localhost", 3000)
    mux: Address | None = Address("localhost", 4000)
    domain: str = ""
    trust_proxy: values.Networks = ()
    # Above nearly every registered service, and room for ten thousand leases and more to come back to.
    ports: tuple[int, int] = (20000, 39999)
    debug: bool = False
    log: str = ""
    log_format: str = "text"
    log_size: int = 10 * 1024 * 1024
    state: str = ""
    aead: str = ""
    lock: str | None = None
    detach: bool = False
    # A laptop's lid, a router's restart, a change of network.
    resume_s: int = 60
    # Requests end within it; downloads and shells would take longer than anybody waits for a restart.
    drain_s: int = 5
    user: str = ""
    warnings: tuple[str, ...] = ()
    api_token: str = ""

    @classmethod
    def parse(cls, options: Options) -> ServerConfig:
        """Check everything that was asked for. Raises ConfigError."""
        base = cls()
        auth, api_token = options.take_auth(), options.take_auth("api-token")
        api = options.take("api", values.listening_address, base.api)
        if api is not None and not api_token and not is_loopback(api.host):
            raise ConfigError(
                f"--api: {api} can be reached from elsewhere: set --api-token too, or write localhost:{api.port}"
            )
        for part, needed in (("mux", ("domain", "trust-proxy")), ("api", ("api-token",))):
            options.warnings += options.idle(part, needed)
        return cls(
            ips=options.take("ip", values.addresses, base.ips),
            port=options.take("port", values.listening_port, base.port),
            auth=auth,
            api=api,
            api_token=api_token,
            mux=options.take("mux", values.listening_address, base.mux),
            domain=options.take("domain", values.domain, base.domain),
            trust_proxy=options.take("trust-proxy", values.networks, base.trust_proxy),
            resume_s=options.take("resume", values.integer(*values.RESUME_S, "seconds"), base.resume_s),
            drain_s=options.take("drain", values.integer(*values.DRAIN_S, "seconds"), base.drain_s),
            user=options.take("user", values.user, base.user),
            ports=options.take("ports", values.port_range, base.ports),
            debug=options.flag("debug"),
            log=options.take("log", values.path, base.log),
            log_format=options.take("log-format", values.one_of(values.LOG_FORMATS), base.log_format),
            log_size=options.take("log-size", values.log_size, base.log_size),
            state=options.take("state", values.path, "") or values.default_state(),
            aead=options.take("aead", values.one_of(values.AEADS), base.aead),
            lock=options.take("lock", values.lock_file, base.lock),
            detach=options.detach(),
            warnings=tuple(options.warnings),
        )

    def lock_name(self) -> str:
        """What tells this server from others on this host: where workers dial it."""
        return f"server-{self.port}-{_digest(*self.ips)}"

    def __repr__(self) -> str:
        return _masked(self)


class ConsoleConfig(NamedTuple):
    """What asks a server's API: ``tags`` and ``as_json`` are for lists, ``cid`` names one worker, "" none."""

    api: Address = Address("localhost", 3000)
    api_token: str = ""
    tags: tuple[str, ...] = ()
    as_json: bool = False
    cid: str = ""

    @classmethod
    def parse(cls, options: Options) -> ConsoleConfig:
        """Check everything that was asked for. Raises ConfigError."""
        base = cls()
        return cls(
            api=options.take("api", values.api_address, base.api),
            api_token=options.take_auth("api-token"),
            tags=options.take("tags", values.tag_list, base.tags),
            as_json=options.flag("json"),
            cid=options.take("cid", values.cid, base.cid),
        )

    def __repr__(self) -> str:
        return _masked(self)


class ClientConfig(NamedTuple):
    """What a worker runs with.

    ``server`` is what it dials; ``ping_s`` is in seconds; ``pool`` counts parallel links; ``once`` means: do
    not retry; the rest is as in ServerConfig.
    """

    tag: str = "aero"
    host: str = "localhost"
    server: Address = Address("0.0.0.0", 8080)
    targets: tuple[Target, ...] = ()
    auth: str = ""
    debug: bool = False
    log: str = ""
    log_format: str = "text"
    log_size: int = 10 * 1024 * 1024
    ping_s: int = 60
    pool: int = 1
    once: bool = False
    state: str = ""
    aead: str = ""
    lock: str | None = None
    detach: bool = False
    warnings: tuple[str, ...] = ()

    @classmethod
    def parse(cls, options: Options) -> ClientConfig:
        """Check everything that was asked for. Raises ConfigError."""
        base = cls()
        return cls(
            tag=options.take("tag", check_tag, base.tag),
            host=options.take("host", host, "") or values.machine_host(),
            server=options.take("server", lambda text: Address.parse(text, base.server.port), base.server),
            targets=options.take_list("target", values.target_list),
            auth=options.take_auth(),
            debug=options.flag("debug"),
            log=options.take("log", values.path, base.log),
            log_format=options.take("log-format", values.one_of(values.LOG_FORMATS), base.log_format),
            log_size=options.take("log-size", values.log_size, base.log_size),
            ping_s=options.take("ping", values.integer(*values.PING_S, "seconds"), base.ping_s),
            pool=options.take("pool", values.integer(1, values.POOL_LINKS, "links"), base.pool),
            once=options.flag("once"),
            state=options.take("state", values.path, "") or values.default_state(),
            aead=options.take("aead", values.one_of(values.AEADS), base.aead),
            lock=options.take("lock", values.lock_file, base.lock),
            detach=options.detach(),
            warnings=tuple(options.warnings),
        )

    def lock_name(self) -> str:
        """What tells this worker from others: server, tag and targets; and the host, as homes can be shared."""
        return f"client-{self.tag}-{_digest(self.host, str(self.server), *sorted(map(str, self.targets)))}"

    def __repr__(self) -> str:
        return _masked(self)


C = TypeVar("C", ServerConfig, ClientConfig)


def reloaded(old: C, new: C, live: tuple[str, ...]) -> tuple[C, list[str]]:
    """``old`` with what is ``new`` in those fields that can change while it runs; and which others would change."""
    fixed = [
        name
        for name in old._fields
        if name not in live and name != "warnings" and getattr(old, name) != getattr(new, name)
    ]
    config = old._replace(**{name: getattr(new, name) for name in (*live, "warnings")})
    return config, fixed


def _digest(*texts: str) -> str:
    import hashlib

    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _masked(config: ServerConfig | ClientConfig | ConsoleConfig) -> str:
    shown = config._asdict()
    for secret in ("auth", "api_token"):
        if shown.get(secret):
            shown[secret] = "***"
    return f"{type(config).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"
