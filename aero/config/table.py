"""Every option of every command, each written down once: name, parser, default, help, environment and file.

To add an option, write it here: help text, docopt's grammar, the environment's variable, the file's key, the typed
field of the configuration and what a reload may change all follow. Options that both roles have stand in
`RoleOptions`. What depends on several options is checked in aero.config.roles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aero import endpoint
from aero.address import Address, Target, UnixPath, check_tag, host
from aero.config import filed, units, values
from aero.config.option import Config, argument, flag, hidden, option, repeated, secret
from aero.config.targetoptions import ZSTD
from aero.config.targets import target_list
from aero.endpoint import Endpoints, Header

if TYPE_CHECKING:
    from aero.allow import Allow
    from aero.proxies import Proxy


class RoleOptions(Config):
    """What server and worker both take.

    ``log`` is "" for stderr; ``log_size`` and ``memory`` are in bytes, ``memory`` is 0 for what suits the host;
    ``state`` is "" when nothing can be kept; ``aead`` is "" for the fastest backend; ``lock`` is None for no lock, ""
    for the default one.
    """

    state: str = option(
        "state", "DIR", filed.path, "",
        "Where to keep what survives a restart (default: ~/.local/state/aero, for root /var/lib/aero)",
        computed=values.default_state,
    )  # fmt: skip
    config_file: str = option(
        "config", "FILE", filed.path, "", "Read options from a TOML file too, see below"
    )
    log: str = option("log", "FILE", filed.path, "", "Log to a file instead of stderr", live=True)
    log_format: str = option(
        "log-format", "NAME", values.one_of(values.LOG_FORMATS), "text",
        "text, or json for machines", live=True,
    )  # fmt: skip
    log_size: int = option(
        "log-size", "SIZE", units.size(*values.LOG_BYTES), 10 * 1024 * 1024,
        "Begin a new log file at this size; one old one stays as FILE.1", show=units.size_text, live=True,
    )  # fmt: skip
    lock: str | None = option(
        "lock", "[FILE]", values.lock_file, None,
        "Exit 0 at once where another start holds the same lock, as every minute under cron. The word that"
        " follows is FILE unless it begins with a dash. (default: a file named after {named_after}, in the"
        " state directory)",
    )  # fmt: skip
    detach: bool = flag("detach", "Go on in the background once all is set up; needs --log")
    strict: bool = flag("strict", "Refuse to start where others can read a file with the code")
    debug: bool = flag("debug", "Log much more", live=True)
    memory: int = option(
        "memory", "SIZE", units.size(*values.MEMORY_BYTES), 0,
        "Most memory for data under way that nobody has taken yet, all connections together; at its end the largest"
        " holders give way (default: a quarter of this machine's or container's, 48M to 512M)",
        computed=int,  # 0: what the host has is known further up
    )  # fmt: skip
    link_path: str = option(
        "link-path", "PATH", endpoint.path, endpoint.LINK_PATH,
        "Path that workers ask for by WebSocket, where their URL has none",
    )  # fmt: skip
    congestion: str = option(
        "congestion", "NAME", values.congestion, "",
        "Congestion control that the kernel runs for links, cubic or bbr for example (default: the system's choice)",
    )  # fmt: skip
    aead: str = option(
        "aead", "NAME", values.one_of(values.AEADS), "",
        "Encryption library, for diagnosis and benchmarks: cryptography, openssl or pycryptodome (default: the"
        " fastest that works here)",
    )  # fmt: skip


class ServerOptions(RoleOptions):
    """What ``aero server`` takes: ``api`` None and ``mux`` () when off; ``ports`` (0, 0): the system chooses."""

    WORDS = {"named_after": "addresses and port"}
    MOVED = {"user": "write --run-as NAME, the user of this host that the server becomes"}

    ips: tuple[str, ...] = option(
        "ip", "LIST", values.addresses, ("0.0.0.0",),
        "Addresses to listen on, for workers and visitors", show=",".join,
    )  # fmt: skip
    port: int = option(
        "port", "PORT", values.listening_port, 8080, "Port that workers dial; 0 takes any free one"
    )
    auth: str = secret(
        "auth",
        "Code that workers must know, or @FILE to read it from a file. Without one, any worker is let in.",
        live=True,
    )
    auth_next: str = secret(
        "auth-next",
        "Another code that counts too, while workers change to it: then make it --auth and leave this out",
        live=True,
    )
    # Above nearly every registered service, below what Linux gives outgoing connections (32768 and up), and room for
    # ten thousand leases and more to come back to.
    users: str = option(
        "users", "FILE", filed.path, "",
        "Users with codes and rules of their own, a TOML file; aero users --help tells more", live=True,
    )  # fmt: skip
    ports: tuple[int, int] = option(
        "ports", "LO-HI", values.port_range, (20000, 32767),
        "Ports that targets get; 0 leaves the choice to the system", show=values.port_range_text,
    )  # fmt: skip
    listen_unix: str = option(
        "listen-unix", "DIR", values.socket_folder, "",
        "Targets as sockets in the file system, too: DIR/TAG.NAME, for this user and DIR's group",
    )  # fmt: skip
    lease_days: int = option(
        "lease-days", "DAYS", units.integer(1, 3650, "days"), 30,
        "How long a port is kept for a worker that is away",
    )  # fmt: skip
    hooks: tuple[str, ...] = repeated(
        "hook", "URL", values.hook_urls, (),
        "POST events as JSON to a URL: workers up and down, links lost, quotas, refusals; may repeat",
    )  # fmt: skip
    hook_secret: str = secret(
        "hook-secret", "Sign what hooks get, in X-Aero-Signature; a code, or @FILE to read it from a file"
    )
    hook_lost_s: int = option(
        "hook-lost",
        "SECONDS",
        units.duration(0, 3600),
        10,
        "A lost link is told when it was not back within so long",
    )
    hook_asks: str = option(
        "hook-asks", "URL", values.hook_url, "",
        "Ask a URL before a new worker or target is let in: it may say no, or which port",
    )  # fmt: skip
    hook_fails: str = option(
        "hook-fails", "NAME", values.one_of(("closed", "open")), "closed",
        "While it gives no clear answer within 2 s: closed lets nobody new in, open everybody",
    )  # fmt: skip
    access_log: str = option(
        "access-log", "FILE", filed.path, "",
        "Write a line for each stream and request to a file, of the size of --log-size",
    )  # fmt: skip
    access_log_format: str = option(
        "access-log-format", "NAME", values.one_of(("combined", "json")), "combined",
        "combined, as web servers have it, or json",
    )  # fmt: skip
    no_history: bool = flag(
        "no-history",
        "Keep no traffic of the past: aero traffic and the page's plot of days have nothing to show",
    )
    utc: bool = flag(
        "utc", "Days and months of traffic and quotas are those of UTC, not of this machine's zone"
    )
    api: Address | UnixPath | None = option(
        "api", "HOST:PORT", values.api_listening, Address("localhost", 3000),
        "Management API and page; unix:PATH for a socket that only this user can reach, or off",
    )  # fmt: skip
    api_token: str = secret(
        "api-token",
        "Token that the API asks for, or @FILE to read it from a file; needed where others than this machine"
        " can reach it",
        live=True, part="api",
    )  # fmt: skip
    mux: tuple[Address | str, ...] = option(
        "mux", "LIST", values.mux_places, (Address("localhost", 4000),),
        "HTTP to targets by path or subdomain at HOST:PORT, or at the port that workers dial (same); both are separated"
        " by commas; or off", show=lambda places: ",".join(map(str, places)),
    )  # fmt: skip
    mux_tls: Address | None = option(
        "mux-tls", "HOST:PORT", values.listening_address, None,
        "The same by HTTPS; needs --tls-cert", part="mux",
    )  # fmt: skip
    tls_certs: tuple[str, ...] = repeated(
        "tls-cert", "FILE", values.files, (),
        "Certificate, with those that lead to its root, for TLS at the port that workers dial and for HTTPS (PEM);"
        " may repeat: each is shown to who asks for its names, the first to others (default: one that the server makes"
        " for itself, see aero pin)", live=True,
    )  # fmt: skip
    tls_keys: tuple[str, ...] = repeated(
        "tls-key", "FILE", values.files, (),
        "Its key, without a password; as many as certificates, in their order (default: in the same files)",
        live=True,
    )  # fmt: skip
    domain: str = option(
        "domain", "NAME", values.domain, "",
        "The mux serves http://TAG.TARGET.NAME/ instead of http://MUX/TAG/TARGET/", part="mux",
    )  # fmt: skip
    mux_hosts: tuple[str, ...] = option(
        "mux-host", "LIST", values.mux_hosts, (),
        "Host names that a mux without --domain answers to, besides localhost, or * for any (default: any, but"
        " localhost only where the mux listens on this machine alone)", show=",".join, part="mux",
    )  # fmt: skip
    target_domains: tuple[str, ...] = option(
        "target-domains", "LIST", values.domain_globs, (),
        "Host names that targets may have by ?domain=NAME, as in *.apps.example.org, where no user's rule says which"
        " (default: none)", show=",".join, live=True, part="mux",
    )  # fmt: skip
    mux_strict: bool = flag(
        "mux-strict",
        "By path, take tags and target names in lower case only, and no worker's ids: for rules of a proxy in front",
        part="mux",
    )
    mux_idle_s: int = option(
        "mux-idle", "SECONDS", units.duration(0, 86400), 0,
        "End a response or WebSocket in which nothing moves for so long; 0 lets it pause for as long as it likes",
        part="mux",
    )  # fmt: skip
    # Kerberos tickets, which some send in a head, have 48 KiB.
    mux_head: int = option(
        "mux-head", "SIZE", units.size(8 * 1024, 1024 * 1024), 64 * 1024,
        "Longest head of a request or response that the mux passes on", show=units.size_text, part="mux",
    )  # fmt: skip
    trust_proxy: values.Networks = option(
        "trust-proxy", "LIST", values.networks, (),
        "Networks (10.0.0.0/8,::1) of proxies before the mux, or before the workers' port for WebSocket: what they say"
        " of those they speak for (X-Forwarded-For, ...) counts, and is passed on",
    )  # fmt: skip
    proxy_protocol: values.Networks = option(
        "proxy-protocol", "LIST", values.networks, (),
        "Networks (10.0.0.0/8,::1) of load balancers: from them a PROXY header (v1, v2) is required on mappings, mux"
        " and link port; from others none is read",
    )  # fmt: skip
    # A laptop's lid, a router's restart, a change of network.
    resume_s: int = option(
        "resume", "SECONDS", units.duration(*values.RESUME_S), 60,
        "How long a worker whose link broke may come back to its open streams; 0 resets them at once",
        live=True,
    )  # fmt: skip
    # Requests end within it; downloads and shells would take longer than anybody waits for a restart.
    drain_s: int = option(
        "drain", "SECONDS", units.duration(*values.DRAIN_S), 5,
        "How long open streams may go on after SIGTERM", live=True,
    )  # fmt: skip
    run_as: str = option(
        "run-as", "NAME", values.user, "", "Become this user once every port is bound (needs root)"
    )


class WayOptions(Config):
    """How a server is reached, besides its address."""

    proxy: Proxy | str = hidden(
        "proxy", "URL", values.proxy,
        "Reach the server by a proxy: http://[USER:PASSWORD@]HOST:PORT, socks5:// or socks5h:// (which looks the"
        " server's name up at the proxy), @FILE to read that from a file, or none (default: for tls:// and wss:// what"
        " HTTPS_PROXY, ALL_PROXY and NO_PROXY say)",
        live=True,
    )  # fmt: skip
    ca: str = option(
        "ca", "FILE", values.ca_file, "",
        "For tls:// and wss://: certificates (PEM) that vouch for the server, in place of the system's", live=True,
    )  # fmt: skip
    tls_pin: tuple[str, ...] = option(
        "tls-pin", "LIST", values.pins, (),
        "Take the server that has this key, whoever signed its certificate: SHA-256 in hexadecimal, or sha256//... as"
        " aero pin prints and curl takes", live=True,
    )  # fmt: skip
    tls_insecure: bool = flag(
        "tls-insecure", "Take any certificate, so that only the code protects; needs --auth", live=True
    )
    tls_name: str = option(
        "tls-name", "NAME", host, "",
        "Ask for this name (SNI, Host) in place of the URL's, as some CDNs want", live=True,
    )  # fmt: skip
    header: tuple[Header, ...] = repeated(
        "header", "LINE", values.headers, (),
        "For ws:// and wss://: a field of the request, 'Name: value', for a gateway that wants a token; may repeat, and"
        " Host: beats --tls-name. @FILE reads lines.",
        live=True,
    )  # fmt: skip
    ws_mask: bool = flag(
        "ws-mask", "Mask WebSocket frames at random, for proxies that look; costs speed", live=True
    )


class ClientOptions(WayOptions, RoleOptions):
    """What ``aero client`` takes: ``server`` is what it dials; ``pool`` counts parallel links."""

    WORDS = {"named_after": "server, tag and targets"}

    targets: tuple[Target, ...] = repeated(
        "target", "LIST", target_list, (),
        "Services to offer, separated by commas; may repeat. Each is NAME@HOST:PORT or NAME:HOST:PORT, IPv6 as"
        " NAME@[::1]:80, UDP as NAME@HOST:PORT/udp, ports in a row as NAME@HOST:LO-HI, a socket as NAME@unix:/PATH;"
        " ?remote=PORT at its end asks the server for that port.",
        live=True,
    )  # fmt: skip
    server: Endpoints = option(
        "server", "HOST:PORT", Endpoints.parse, Endpoints.at("0.0.0.0", 8080),
        "The server to dial: HOST:PORT, or tcp://, tls://, ws:// or wss:// and HOST[:PORT] (8080, 443, 80, 443), behind"
        " the last two a path perhaps. Several, separated by commas, are tried a moment apart, the one that worked last"
        " first; auto://HOST is all four.",
        live=True,
    )  # fmt: skip
    auth: str = secret("auth", "The server's code, or @FILE to read it from a file", live=True)
    allow: Allow | None = option(
        "allow", "LIST", values.allowed, None,
        "Bounds where targets may be, for configurations that come from elsewhere: 127.0.0.1:*+10.0.0.0/24:22; a name"
        " matches as it is written, of every other one each address is checked at each connect (default: anywhere)",
    )  # fmt: skip
    user: str = option(
        "user", "NAME", values.login, "",
        "The user of the server's --users whose code --auth is (default: none, the code that all have)",
    )  # fmt: skip
    tag: str = option(
        "tag", "NAME", check_tag, "aero",
        "This worker's name: letters, digits, hyphens. Workers may share one; requests go round. With --user,"
        " the user's name is the default.",
    )  # fmt: skip
    host: str = option(
        "host", "NAME", host, "localhost", "The host name to show (default: this machine's)",
        computed=values.machine_host,
    )  # fmt: skip
    ping_s: int = option(
        "ping", "SECONDS", units.duration(*values.PING_S), values.PING_DEFAULT_S,
        "Between signs of life, 1 to 3600; a link that is silent for twice as long is replaced (default: 60, and 25 by"
        " ws:// and wss://, as gateways cut what is silent for a minute)",
        computed=lambda: values.PING_DEFAULT_S, live=True,
    )  # fmt: skip
    zstd: str = option(
        "zstd", "WHEN", values.one_of(ZSTD), "off",
        "Compress what targets say that have no zstd= of their own: off, auto or on; where secrets and words of an"
        " attacker meet, their length tells (docs/compression.md)", live=True,
    )  # fmt: skip
    pool: int = option(
        "pool", "N", units.integer(1, values.POOL_LINKS, "links"), 1, "Parallel links to the server, 1 to 16"
    )
    once: bool = flag("once", "Do not retry: end when the first link ends or fails")


class DemoOptions(Config):
    """What ``aero demo`` takes."""

    check: bool = flag("check", "Exit after the self-test: 0 it works, 1 it does not")
    aead: str = option(
        "aead", "NAME", values.one_of(values.AEADS), "",
        "Encryption library: cryptography, openssl or pycryptodome (default: the fastest that works here)",
    )  # fmt: skip


class ConsoleOptions(Config):
    """What every command takes that asks a server's API."""

    api: Address | UnixPath = option(
        "api", "HOST:PORT", values.api_address, Address("localhost", 3000),
        "Where the server's API listens, or unix:PATH",
    )  # fmt: skip
    api_token: str = secret(
        "api-token",
        "The API's token, or @FILE to read it from a file; other users of this machine see what stands on a"
        " command line",
    )


class ListOptions(ConsoleOptions):
    """What ``aero list`` takes."""

    tags: tuple[str, ...] = option(
        "tags", "LIST", values.tag_list, (), "Only workers with one of these tags, separated by commas"
    )
    as_json: bool = flag("json", "The API's answer as it is")


class TrafficOptions(ConsoleOptions):
    """What ``aero traffic`` takes. ``since`` and ``until`` are "" for the last day, month or year."""

    by: str = option(
        "by", "NAME", values.one_of(("user", "tag", "target")), "target", "Whose: user, tag or target"
    )
    step: str = option("step", "NAME", values.one_of(("hour", "day", "month")), "day", "hour, day or month")
    since: str = option(
        "from",
        "TIME",
        values.moment,
        "",
        "First month (2026-11), day (2026-11-01) or time (2026-11-01T08:00:00Z)",
    )
    until: str = option("to", "TIME", values.moment, "", "Last month or day, or the time at which to stop")
    as_json: bool = flag("json", "The API's answer as it is")


class WorkerOptions(ConsoleOptions):
    """What a command takes that is about one worker: ``ping``, ``kick``."""

    cid: str = argument("cid", values.cid, "")


class KeyOptions(ConsoleOptions):
    """What a command takes that may change something: it finds the server's key where the server keeps its state."""

    state: str = option(
        "state", "DIR", filed.path, "",
        "Where the server keeps its state, and in it the key that changes need; not used with --api-token"
        " (default: ~/.local/state/aero, for root /var/lib/aero)",
        computed=values.default_state,
    )  # fmt: skip


class KickOptions(KeyOptions, WorkerOptions):
    """What ``aero kick`` takes."""


class OpenOptions(KeyOptions):
    """What ``aero open`` takes: ``whence`` is "" for anywhere."""

    target: str = argument("target", values.target_name, "")
    for_s: int = option(
        "for", "TIME", units.duration(0, 30 * 24 * 3600), 1800, "How long it stays open; 0 closes it now",
        show=units.duration_text,
    )  # fmt: skip
    whence: str = option(
        "from", "ADDRESS", values.whence, "",
        "Let visitors in from this address or network only; me: from where you are, as ssh or the API sees it",
    )  # fmt: skip
    cut: bool = flag("cut", "When it closes, end the streams that are open")


class PageOptions(KeyOptions):
    """What ``aero page`` takes."""


class PinOptions(Config):
    """What ``aero pin`` takes: ``tls_cert`` "" for the certificate that a server makes for itself."""

    state: str = option(
        "state", "DIR", filed.path, "",
        "Where the server keeps its state, and in it the certificate that it has made; made now where there is none yet"
        " (default: ~/.local/state/aero, for root /var/lib/aero)",
        computed=values.default_state,
    )  # fmt: skip
    tls_cert: str = option(
        "tls-cert", "FILE", filed.path, "", "The server's first --tls-cert, where it has one"
    )


class InviteOptions(KeyOptions):
    """What ``aero invite`` takes: ``tag`` "" for the user's name, ``may`` None for anywhere."""

    user: str = option(
        "user", "NAME", values.tunnel_user, "", "Whose worker it will be: one of the server's users"
    )
    tag: str = option("tag", "NAME", check_tag, "", "The worker's tag (default: the user's name)")
    may: Allow | None = option(
        "may", "LIST", values.allowed, None,
        "Where its targets may be, as for aero client --allow: 127.0.0.1:22+10.0.0.0/24:* (default: anywhere)",
    )  # fmt: skip
    for_s: int = option(
        "for", "TIME", units.duration(60, 7 * 24 * 3600), 600, "How long the code is good for, 1m to 7d",
        show=units.duration_text,
    )  # fmt: skip
    words: int = option(
        "words", "N", units.integer(2, 6, "words"), 2,
        "Words of the code, 2 to 6: each makes it 512 times as hard to guess",
    )  # fmt: skip


class TargetOptions(KeyOptions):
    """What ``aero target`` takes, besides its words: ``for_s`` is 0 for good."""

    for_s: int = option(
        "for", "TIME", units.duration(1, 30 * 24 * 3600), 0,
        "How long a target that is added stays (default: for good, through restarts)", show=lambda _: "",
    )  # fmt: skip
    as_json: bool = flag("json", "The API's answer as it is")


class InvitesOptions(KeyOptions):
    """What ``aero invites`` takes: ``withdraw`` is "" where it is to list."""

    withdraw: str = option(
        "withdraw", "NAME", values.invited, "",
        "Withdraw an invitation, by its number, or what came of one, USER+ID: its worker is sent away",
    )  # fmt: skip
    as_json: bool = flag("json", "The API's answer as it is")


class JoinOptions(WayOptions):
    """What ``aero join`` takes, besides the server and the code; ``file`` is "" for a file of its own."""

    targets: tuple[Target, ...] = repeated(
        "target", "LIST", target_list, (),
        "Services to offer, as for aero client (default: each single address and port of the invitation's --may)",
    )  # fmt: skip
    file: str = option(
        "file", "FILE", filed.path, "",
        "The configuration file to write (default: TAG.toml in ~/.config/aero, for root in /etc/aero)",
    )  # fmt: skip


class UsersOptions(Config):
    """What ``aero users`` takes, besides a word and what that is about."""

    auth: str = secret(
        "auth", "The user's code, or @FILE to read it from a file (default: a new one is made)"
    )


class ServiceOptions(Config):
    """What ``aero service install`` takes itself, before the word server or client."""

    write: bool = flag(
        "write",
        "Install it: write the unit and start it, or add the line to your crontab in place of an earlier one",
    )
    systemd: bool = flag("systemd", "A systemd unit, wherever this is")
    cron: bool = flag("cron", "A line for crontab, wherever this is")
