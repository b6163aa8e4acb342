"""The API's routes: what each takes, and what it answers. The rules that hold for all of them are in guard.py.

Bottle routes and parses; its request and response for the current thread are not used, because greenlets share a
thread and some answers wait. Every route gets its request and returns a Reply.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from functools import partial
from time import monotonic, time
from typing import Any, Callable, Protocol

import bottle
import gevent
from gevent.event import AsyncResult

from aero import __version__, logs
from aero.address import TCP, Address, UnixPath, check_name, is_loopback
from aero.errors import AeroError, ConfigError, Problem
from aero.host import keyfile
from aero.limits import Limits
from aero.net.listen import close_all
from aero.net.loop import Loop
from aero.server.api import adding, guard, history, inviting, listing, live, metrics
from aero.server.api.http import HttpServer
from aero.server.api.opening import opened
from aero.server.api.page import page
from aero.server.api.pageaddress import address_with
from aero.server.api.replies import JSON, NO_CONTENT, Reply, problem_reply, reply
from aero.server.api.times import rfc3339
from aero.server.api.turns import Turns
from aero.server.httpmux.urls import Face, target_url
from aero.server.policy.origin import key_of
from aero.server.policy.penalties import Penalties
from aero.server.present import Present
from aero.server.registry.mapping import Mapping
from aero.server.registry.worker import Worker
from aero.server.store.rhythms import Rhythms
from aero.server.store.usage import SPANS, Usage
from aero.server.watch.events import Events
from aero.server.watch.traffic import Traffic

log = logs.get("api")

#: What a caller asks for who comes by a path in the file system.
LOCAL = Address("localhost", 0)

Request = Any  # bottle.BaseRequest: Bottle has no types


class ApiGround(metrics.MetricsGround, Protocol):
    """What the API needs of the server."""

    @property
    def loop(self) -> Loop:
        """The event loop."""

    @property
    def present(self) -> Present:
        """Holds the present configuration."""

    @property
    def events(self) -> Events:
        """What happens on the server."""

    @property
    def rhythms(self) -> Rhythms:
        """Who is late."""

    @property
    def usage(self) -> Usage | None:
        """The traffic of the past, None where that is not kept."""


class Api:
    """The API of one server, listening."""

    def __init__(
        self,
        ground: ApiGround,
        address: Address | UnixPath,
        socks: list[socket.socket],
        port: int,
        mux: Face | None,
        invitations: inviting.Inviter,
    ) -> None:
        """``address``: what --api says, where ``socks`` listen; ``port``: where workers dial; ``mux``: the mux, if any;
        ``invitations``: who may become a worker.

        Raises ConfigError.
        """
        config = ground.present.config
        token = config.api_token
        ips = [sock.getsockname()[0] for sock in socks if sock.family != socket.AF_UNIX]
        self._foreign = [ip for ip in ips if not is_loopback(ip)]
        self._where = address
        try:
            self._check_token(token)
        except ConfigError:
            close_all(socks)
            raise
        self._ground = ground
        self._port = port
        self._mux = mux
        self._invitations = invitations
        self._guard = guard.Guard(
            address if isinstance(address, Address) else LOCAL, token, _key(config.state)
        )
        self._guesses = Penalties()
        self._traffic = Traffic(ground.loop, ground.registry.workers)
        self._lag = metrics.Lag(ground.loop)
        self._live = live.Live(ground.events)
        self._turns = Turns(ground.loop)
        self._page = page(port, bool(config.auth))
        self._document: Reply | None = None  # until somebody asks
        self._bottle = bottle.Bottle()
        for method, path, route in (
            ("GET", "/", self.get_page),
            ("GET", "/health", self.get_health),
            ("GET", "/list", self.get_list),
            ("GET", "/ping", self.get_ping),
            ("POST", "/kick", self.post_kick),
            ("POST", "/open", self.post_open),
            ("POST", "/reload", self.post_reload),
            ("POST", "/targets", self.post_targets),
            ("POST", "/targets/remove", self.post_targets_remove),
            ("GET", "/targets", self.get_targets),
            ("POST", "/invite", self.post_invite),
            ("GET", "/invites", self.get_invites),
            ("POST", "/withdraw", self.post_withdraw),
            ("GET", "/events", self.get_events),
            ("GET", "/metrics", self.get_metrics),
            ("GET", "/traffic", self.get_traffic),
            ("GET", "/traffic/history", self.get_history),
            ("GET", "/openapi.json", self.get_openapi),
        ):
            self._bottle.route(path, method, route)
        #: What reads everything anew; set once the server runs. Which options changed, and which need a restart.
        self.reload_all: Callable[[], tuple[list[str], list[str]]] | None = None
        self._http = HttpServer(socks, self, self._turns)

    @property
    def address(self) -> Address | UnixPath:
        """Where it listens."""
        return self._http.address

    @property
    def invitation(self) -> str:
        """The page's address with what opens everything: for a terminal, never for a log. "" where there is no page."""
        where = self.address
        return address_with(self._guard.secret, where) if isinstance(where, Address) else ""

    def _check_token(self, token: str) -> None:
        if self._foreign and not token:
            raise ConfigError(
                f"--api: {self._where} is {self._foreign[0]}, not this machine alone: set --api-token too"
            )

    def reload(self, auth: str, token: str) -> None:
        """Takes over a new token; who listens to events by the old one has to ask again. ``auth``: the links' code.

        Raises ConfigError for a token that cannot be, and changes nothing.
        """
        self._check_token(token)
        self._page = page(self._port, bool(auth))
        if self._guard.change_token(token):
            self._document = None
            self._guesses.forget()
            self._live.close()

    def close(self) -> None:
        """Stops serving."""
        self._live.close()
        self._http.close()
        self._turns.close()
        self._traffic.close()
        self._lag.close()

    # One request

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """The WSGI application."""
        try:
            given = self._answer(environ)
        except Problem as problem:
            given = problem_reply(problem)
        except Exception as error:
            log.error("the API has a fault", path=environ.get("PATH_INFO"), error=repr(error))
            given = problem_reply(Problem(500, "the server has a fault; its log says more"))
        start_response(given.status_line, given.all_headers)
        if environ["REQUEST_METHOD"] == "HEAD":
            return []
        return [given.body] if isinstance(given.body, bytes) else given.body

    def _answer(self, environ: dict[str, Any]) -> Reply:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        reads = method in ("GET", "HEAD")
        # Health checks can say neither our name nor a token; that route looks for itself.
        if not (reads and path == "/health"):
            self._admit(environ, reads)
        try:
            route, _ = self._bottle.match(environ)
        except bottle.HTTPError as error:
            allow = error.get_header("Allow")
            if error.status_code != 405 or not allow:
                raise Problem(404, "there is no such path; GET /openapi.json tells what there is") from None
            allow = "GET, HEAD" if allow == "GET" else allow
            raise Problem(405, f"this path takes {allow} only", ("Allow", allow)) from None
        if not reads:
            self._check(self._guard.check_key, environ, self._guard.no_key)
        answered: Reply = route.callback(bottle.BaseRequest(environ))
        return answered

    def _admit(self, environ: dict[str, Any], reads: bool) -> None:
        """Lets in who asks for us by our name, from no other site, with the token where one is set."""
        host = environ.get("HTTP_HOST", "")
        self._guard.check_host(host)
        if not reads:
            self._guard.check_origin(environ.get("HTTP_ORIGIN", ""), host)
        # The page holds nothing: it asks for the token, and then like everybody for the rest.
        if not (reads and environ["PATH_INFO"] == "/"):
            self._check(self._guard.check_token, environ, guard.no_token)

    def _check(
        self, is_right: Callable[[str], bool], environ: dict[str, Any], problem: Callable[[], Problem]
    ) -> None:
        given = environ.get("HTTP_AUTHORIZATION", "")
        if not is_right(given):
            self._slow_down(given, environ["REMOTE_ADDR"])
            raise problem()

    def _slow_down(self, given: str, address: str) -> None:
        """A wrong token or key: each one more from there waits longer for its answer. Right ones never wait."""
        if not given:
            return
        key, now = key_of(address), monotonic()
        self._ground.counters.error("api token wrong")
        log.warning("API call with a wrong token", address=address)
        delay_s = self._guesses.delay_s(key, now)
        self._guesses.failed(key, now)
        gevent.sleep(delay_s)

    # Routes

    def get_page(self, request: Request) -> Reply:
        """The page for people."""
        guard.parameters(request.query_string, ())
        return self._page

    def get_health(self, request: Request) -> Reply:
        """Whether it works, for everybody; in a few numbers for those who may read the rest.

        What checks health adds parameters of its own; they are ignored.
        """
        given = request.get_header("Authorization", "")
        if not self._guard.check_token(given):
            self._slow_down(given, request.environ["REMOTE_ADDR"])
            return reply({"status": "ok"})
        if not self._guard.is_ours(guard.host_of(request.get_header("Host", ""))):
            return reply({"status": "ok"})
        registry = self._ground.registry
        return reply(
            {
                "status": "ok",
                "version": __version__,
                "uptime_s": round(self._ground.birth.age_s, 3),
                "workers": len(registry.workers),
                "streams": registry.streams,
            }
        )

    def get_list(self, request: Request) -> Reply:
        """Workers and their targets, those with one of some tags or all."""
        tags = _tags(guard.parameters(request.query_string, ("tags",)).get("tags"))
        seen_as = guard.host_of(request.get_header("Host", ""))
        workers = [each for each in self._ground.registry.workers.values() if not tags or each.tag in tags]
        late = [each for each in self._ground.rhythms.late if not tags or each.who.tag in tags]
        pieces = listing.listed(workers, late, partial(self._url, seen_as))
        return Reply(200, JSON, self._turns.whole(pieces))

    def _url(self, seen_as: str, worker: Worker, mapping: Mapping) -> str | None:
        """Where the mux has a target, for whoever calls us ``seen_as``; None where it has none."""
        if not self._mux or mapping.owner.proto != TCP:
            return None
        names = [each.decode() for each in mapping.domains[:1]]
        return target_url(
            self._mux, self._ground.present.config.domain, worker.tag, mapping.name, seen_as, *names
        )

    def get_ping(self, request: Request) -> Reply:
        """Pings a worker now."""
        worker = self._named(request)
        pong: AsyncResult[float] = AsyncResult()
        sent_at = time()
        ready = [each for each in worker.sessions if each.alive]
        if not any(each.ping(pong.set) for each in ready):
            raise Problem(504, f"worker {worker.cid} has no link that takes a ping now")
        round_trip_s = pong.wait(Limits.API_PING_S)
        if round_trip_s is None:
            raise Problem(504, f"worker {worker.cid} did not answer within {Limits.API_PING_S:.0f} s")
        return reply(
            {"cid": worker.cid, "sent_at": rfc3339(sent_at), "rtt_ms": round(1000 * round_trip_s, 3)}
        )

    def post_kick(self, request: Request) -> Reply:
        """Sends a worker away; its streams may end first."""
        guard.check_empty_json(request.get_header("Content-Type", ""), request.body.read())
        worker = self._named(request)
        streams = worker.streams
        log.info("kick", cid=worker.cid, tag=worker.tag, by=request.environ.get("REMOTE_ADDR"))
        worker.kick()
        return reply({"cid": worker.cid, "kicked": True, "streams": streams, "grace_s": Limits.KICK_S})

    def post_reload(self, request: Request) -> Reply:
        """Reads the server's sources again, as SIGHUP does, and says what came of it."""
        guard.check_empty_json(request.get_header("Content-Type", ""), request.body.read())
        guard.parameters(request.query_string, ())
        if self.reload_all is None:
            raise Problem(503, "the server is still starting")
        log.info("reload", by=request.environ.get("REMOTE_ADDR"))
        try:
            changed, fixed = self.reload_all()
        except AeroError as error:
            raise Problem(409, f"nothing is changed: {error}") from None
        return reply({"changed": changed, "needs_restart": fixed})

    def post_open(self, request: Request) -> Reply:
        """Opens a closed target for a time, or closes it."""
        guard.check_empty_json(request.get_header("Content-Type", ""), request.body.read())
        given = guard.parameters(request.query_string, ("target", "for", "from", "cut"))
        address = request.environ.get("REMOTE_ADDR", "")
        return reply(opened(self._ground.registry, given, address))

    def post_targets(self, request: Request) -> Reply:
        """Adds a target to workers that run."""
        guard.check_empty_json(request.get_header("Content-Type", ""), request.body.read())
        given = guard.parameters(request.query_string, adding.ADD)
        return reply(adding.added(self._ground.registry, given, request.environ.get("REMOTE_ADDR", "")))

    def post_targets_remove(self, request: Request) -> Reply:
        """Takes a target away that was added."""
        guard.check_empty_json(request.get_header("Content-Type", ""), request.body.read())
        given = guard.parameters(request.query_string, ("target", "proto"))
        address = request.environ.get("REMOTE_ADDR", "")
        return reply(adding.removed(self._ground.registry.additions, given, address))

    def get_targets(self, request: Request) -> Reply:
        """The targets that were added."""
        guard.parameters(request.query_string, ())
        return reply(adding.listed(self._ground.registry.additions))

    def post_invite(self, request: Request) -> Reply:
        """Invites a worker of a user's, by a short code."""
        guard.check_empty_json(request.get_header("Content-Type", ""), request.body.read())
        given = guard.parameters(request.query_string, inviting.INVITE)
        address = request.environ.get("REMOTE_ADDR", "")
        return reply(inviting.invited(self._invitations, given, address, self._port))

    def get_invites(self, request: Request) -> Reply:
        """Who was invited, and who came."""
        guard.parameters(request.query_string, ())
        return reply(inviting.listed(self._invitations))

    def post_withdraw(self, request: Request) -> Reply:
        """Withdraws an invitation, or what came of one."""
        guard.check_empty_json(request.get_header("Content-Type", ""), request.body.read())
        given = guard.parameters(request.query_string, ("name",))
        address = request.environ.get("REMOTE_ADDR", "")
        return reply(inviting.withdrawn(self._invitations, given, address))

    def get_events(self, request: Request) -> Reply:
        """Events as they happen."""
        guard.parameters(request.query_string, ())
        if self._live.full:
            text = f"{Limits.API_LISTENERS} listen already, the most there may be"
            raise Problem(503, text, ("Retry-After", "10"))
        body = self._live.stream(request.get_header("Last-Event-ID", ""))
        return Reply(200, live.CONTENT_TYPE, body, (NO_CONTENT, ("X-Accel-Buffering", "no")))

    def get_metrics(self, request: Request) -> Reply:
        """Numbers for Prometheus."""
        guard.parameters(request.query_string, ())
        lines = metrics.lines(self._ground, self._lag)
        return Reply(200, metrics.CONTENT_TYPE, self._turns.whole(lines))

    def get_traffic(self, request: Request) -> Reply:
        """Throughput of the last ten minutes, or since a sample."""
        since = guard.parameters(request.query_string, ("since",)).get("since", "")
        if since and not (since.isascii() and since.isdigit() and len(since) <= 12):
            raise Problem(400, "since is the number of a sample: what the last answer calls last")
        traffic = self._traffic.since(int(since) if since else None)
        return Reply(200, JSON, self._turns.whole(listing.throughput(traffic)))

    def get_history(self, request: Request) -> Reply:
        """The traffic of the past, by hour, day or month."""
        given = guard.parameters(request.query_string, history.PARAMETERS)
        usage = self._ground.usage
        if usage is None:
            raise Problem(404, "no history is kept: the server runs with --no-history")
        now = time()
        asked = history.question(given, usage.calendar, now)
        lines = usage.history(asked.by, SPANS[asked.step], asked.since, asked.until, asked.top)
        if history.wants_csv(request.get_header("Accept", "")):
            return Reply(200, history.CSV, self._turns.whole(history.as_csv(asked, lines)))
        return Reply(200, JSON, self._turns.whole(history.as_json(asked, usage.calendar, now, lines)))

    def get_openapi(self, request: Request) -> Reply:
        """This API's description."""
        guard.parameters(request.query_string, ())
        if self._document is None:
            from aero.server.api import openapi

            self._document = reply(openapi.document(self._guard.has_token))
        return self._document

    def _named(self, request: Request) -> Worker:
        """The worker that the parameter ``cid`` names."""
        cid = guard.parameters(request.query_string, ("cid",)).get("cid", "")
        if not cid:
            raise Problem(400, "say which worker: cid=..., as GET /list shows it")
        worker = self._ground.registry.workers.get(cid)
        if worker is None:
            raise Problem(404, f"there is no worker {logs.clean(cid, 40)}")
        return worker


def _key(folder: str) -> guard.ApiKey:
    """The key of a server that keeps its state in ``folder``; one that nobody can have where it keeps none."""
    if folder:
        path = keyfile.path_in(folder)
        try:
            return guard.ApiKey(keyfile.make(folder), path)
        except OSError as error:
            log.warning(
                "cannot keep the API's key, so calls that change something are off", path=path, error=error
            )
    return guard.ApiKey(keyfile.new_key(), "")


def _tags(text: str | None) -> set[str]:
    if text is None:
        return set()
    try:
        return {check_name(tag) for tag in text.split(",")}
    except ConfigError as error:
        raise Problem(400, f"tags: {error}") from None
