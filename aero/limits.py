"""How much of everything: bounds of queues, buffers, tables and waits, each with its reason."""

from __future__ import annotations


class Limits:
    """Bounds of queues, buffers, tables and waits, each with its reason.

    The class has everybody's; an instance differs in what it is given: ``Limits(TARGETS_PER_WORKER=8)``. What bounds
    one worker is read from the instance that the worker has (`STANDARD` unless somebody says otherwise), what bounds
    the process from the class.
    """

    def __init__(self, **differing: float) -> None:
        """``differing``: bounds by name that are other than the standard ones. Raises TypeError for an unknown name."""
        unknown = [name for name in differing if not hasattr(type(self), name)]
        if unknown:
            raise TypeError(f"there is no limit {', '.join(unknown)}")
        self.__dict__.update(differing)

    # Workers on one server: each costs a descriptor, a port a target, and some 40 KiB before its first byte.
    WORKERS = 4096
    # A registration (63 + 253 characters and about 80 of JSON per target) has to fit 64 KiB of control message.
    TARGETS_PER_WORKER = 128
    # Ports of all targets of a worker: each has an id of 16 bits, and a change of targets needs free ones in a row.
    PORTS_PER_WORKER = 32_768
    # Ports that a worker's targets may have on the server, where no rule of a user's names ports: as if each had one.
    PORTS_BY_DEFAULT = 128
    # Header fields that a target may have set, and removed: more than any program looks at.
    TARGET_HEADERS = 16

    # The API's connections: a few people's browsers (six each), a scraper, scripts.
    API_CONNECTIONS = 128
    # Of these, how many from one address (IPv6: one /64), this machine's own apart: a scraper, and four browsers.
    API_CONNECTIONS_PER_ADDRESS = 32
    # Of these, how many may listen to events, each with so many waiting (some 300 bytes) before it is cut off.
    API_LISTENERS = 32
    API_EVENTS = 1000
    # Proxies cut what is silent for a minute; the page says that the server is lost after two of these.
    API_HEARTBEAT_S = 10.0
    # A head with a long token and every header that browsers send has 2 KiB; a body says nothing at all.
    API_HEAD_BYTES = 16 * 1024
    API_BODY_BYTES = 4 * 1024
    # A whole request, also the wait for the next one; and how long its reader may leave an answer in our buffers.
    API_REQUEST_S = 15.0
    API_SEND_S = 20.0
    # How long a ping through the API waits: links that need longer are as good as dead for requests.
    API_PING_S = 5.0
    # A worker that is asked for a target answers at once, or when the port's holder was asked for a sign of life.
    API_TARGET_S = 5.0
    # Lines of throughput that are kept for the page, 2.5 KiB each, and 30 ms of the loop to tell all to a new page;
    # beyond them only the line of all goes on.
    TRAFFIC_SERIES = 512

    # Visitors of the HTTP mux: with 10 KiB each while idle, and their streams, below the memory of a small host.
    MUX_VISITORS = 8192
    # Of these, how many from one address (IPv6: one /64): an office behind one NAT, six connections a browser.
    MUX_VISITORS_PER_ADDRESS = 256
    # Fields of a head, each way: browsers and common servers stop at 100 or a little more; some applications set a
    # cookie for each of 130 things. How long heads may be is an option (--mux-head).
    MUX_HEAD_FIELDS = 256
    # Interim responses before the final one, together no larger than a head: 100, 103 and 102 now and then; without
    # end they would be an attack.
    MUX_INTERIM_HEADS = 16
    # A head is one packet or few; the next request may be a person's next click.
    MUX_HEAD_S = 15.0
    MUX_IDLE_S = 60.0
    # Silence in the middle of a request's body: a train's tunnel, a paused upload. Responses and upgraded connections
    # may pause for as long as their reader is there (TCP's keepalive asks) and memory allows.
    MUX_BODY_S = 300.0
    # How long a page of the mux's own may lie unread: there is nothing in it to pause for.
    MUX_SEND_S = 60.0
    # A request under way whose link is lost waits between one and two of these for the link to come back, as a redial
    # takes, before it is made elsewhere, where that can do no harm.
    MUX_LINK_S = 2.0
    # The target's time to answer: a slow RPC is what people have; beyond five minutes nobody holds a request open.
    MUX_ANSWER_S = 300.0
    # What a visitor who is told no may still send, and how long, before the connection is closed under it.
    MUX_LINGER_S = 2.0
    MUX_LINGER_BYTES = 1024 * 1024
    # Mappings that one request is tried at, and how much of its body is kept to send it again: an RPC's arguments.
    MUX_TRIES = 4
    MUX_REPLAY_BYTES = 16 * 1024
    # Connections to targets kept for the next request: as many as a browser or a busy client has at once, and in all
    # no more than a worker's session carries easily.
    MUX_POOLED_PER_TARGET = 64
    MUX_POOLED = 1024
    # For how long: most targets hang up first (after 5 s, often). What may not be sent twice takes only one that was
    # used so recently that no server in wide use has given it up (the shortest patience is 2 s).
    MUX_POOLED_S = 15.0
    MUX_POOLED_FRESH_S = 1.0
    # Nor does it take one of a target of which none has lain so long unended: what ends connections without a word does
    # so with its answer, and both travel together.
    MUX_REST_S = 0.05
    # How long a target has to close a connection that we have ended.
    MUX_RETIRE_S = 5.0

    # Lines of htpasswd that a target may have, and names of its own.
    TARGET_LOGINS = 64
    TARGET_DOMAINS = 8
    # Names whose targets are away, remembered to say so: some 300 bytes each.
    DOMAINS_AWAY = 4096
    # Passwords of visitors that are being looked at, one after the other, each for up to a third of a second, and how
    # many of them one address may have under way: a browser and a script. Digests of those that were right, 150 bytes
    # each: as many as people use within a day.
    PASSWORDS = 64
    PASSWORDS_PER_ADDRESS = 8
    PASSWORDS_KNOWN = 4096

    # Pairs of tag and target whose bytes are counted apart (peers choose both): some 400 bytes and four lines each.
    COUNTED_TARGETS = 4096
    # How long the streams of a worker that is sent away may go on: requests end, downloads are cut.
    KICK_S = 10.0

    # Handshakes that are under way at once. Each may last 10 s, so 256 let 25 workers a second in even while all
    # other places are held by peers that say nothing: a newcomer takes the place of one of those who have come least
    # far, by lot.
    HANDSHAKES = 256
    # Of these, how many may come from one address (IPv6: one /64): a rack of workers behind one NAT after a power cut.
    HANDSHAKES_PER_ADDRESS = 64

    # Visitors of mappings: one address may hold half of the places that are free, but at least so many (an office
    # behind one NAT); this machine's own are not counted. Of a worker's places there are as many as one session takes
    # streams.
    VISITORS_PER_ADDRESS = 256
    VISITORS_PER_WORKER = 16_384
    # Connections from --proxy-protocol networks whose header has not come whole; a newer one takes the oldest's place.
    PROXY_HEADERS = 512
    PROXY_HEADER_S = 5.0
    # Descriptors that no visitor of a mapping gets, at most a quarter of all: links, handshakes and the API need them.
    KEPT_DESCRIPTORS = 1024

    # Visitors that come while no link of their worker is up wait for one: longer than a redial takes, shorter than
    # people's patience. So many for each worker: a second of a busy service.
    VISITOR_WAIT_S = 5.0
    WAITING_VISITORS = 1024
    # Targets with wait= whose workers are away: each has listening sockets, and a lobby of its own.
    AWAY_TARGETS = 1024
    # How long their visitors may wait at the most: cron comes each minute, a small host boots in some.
    AWAY_WAIT_S = (1, 600)
    # What a worker may ask in control messages: all its targets in one message, some reloads in a row, then a few a
    # minute as people edit files; each can cost a bind, a row and a line of log for every target.
    CONTROL_BURST = 32
    CONTROL_PER_S = 1.0
    # Closed targets that are open, remembered while their workers come and go: as many as people open by hand.
    OPENED_TARGETS = 1024
    # What it says of its targets' health: a message a second, and half a minute of them behind a path that was stuck.
    HEALTH_BURST = 32
    HEALTH_PER_S = 1.0
    # What is answered costs more than asking: pings of a worker (one at once and one an interval, which is a second at
    # least; a few more after a stop), and streams that it opens at the server, where there is nothing to reach.
    PINGS_BURST = 16
    PINGS_PER_S = 4.0
    OPENS_BURST = 16
    OPENS_PER_S = 1.0
    # UDP: visitors of a mapping and of all, some KiB each at each end; of one address (IPv6: one /64), an office behind
    # one NAT; descriptors of a worker's targets.
    FLOWS_PER_MAPPING = 8192
    FLOWS = 32_768
    FLOWS_PER_ADDRESS = 1024
    FLOWS_PER_WORKER = 16_384
    # New flows of one address, each a socket at the worker: a resolver takes a new port for every query.
    FLOWS_BURST = 1024
    FLOWS_PER_S = 256.0
    # Answers to visitors who may be made up, in bytes: to each prefix, which may be somebody's that never asked, and
    # from each mapping. A name server's answer has 100 to 1,000.
    REPLIES_BURST = 256 * 1024
    REPLIES_PER_S = 64.0 * 1024
    MAPPING_REPLIES_BURST = 4 * 1024 * 1024
    MAPPING_REPLIES_PER_S = 1024.0 * 1024
    # Of how many addresses and prefixes this is remembered, some 200 bytes each.
    FLOW_ADDRESSES = 8192
    # What targets may ask for: seconds of silence that end a flow, and answers of so many times what came.
    FLOW_IDLE_S = (5, 86_400)
    AMPLIFY = (1, 10_000)
    # A worker keeps a flow that much longer than the server, which says when it is over, so that both do not say it.
    FLOW_MARGIN_S = 30.0
    # Datagrams that wait while a target's name is looked up.
    FLOW_EARLY = 16
    # Ends of flows that there are not (any more): those that cross ours are as many as flows can end in one round trip.
    FLOW_ENDS_BURST = 4096
    FLOW_ENDS_PER_S = 1024.0
    # Leases that one worker's identity and one address may have (IPv6: one /64): two workers' worth of targets, and a
    # rack's. What is beyond gets ports that are not kept for it.
    LEASES_PER_IDENTITY = 256
    LEASES_PER_ADDRESS = 1024
    # Leases of others with the same owner, its clones, that one claim looks at: it may bind or ask each of them, and
    # whoever has the code can make as many clones as there are workers.
    LEASES_A_CLAIM = 64
    # Leases in use are put down as in use once an hour, some each minute: so many, that 32,768 have their turn in time,
    # cost 2 ms.
    LEASE_REFRESH_S = 3600
    LEASES_A_LOOK = 600
    LEASE_LOOK_S = 60.0
    # A leased port that another program uses is tried again for so long: connections that went out over it end.
    LEASE_BUSY_S = 5.0
    # Targets of one worker that wait to be registered: four messages with all that it may have.
    WAITING_TARGETS = 512
    # How long the loop works at registrations in one turn: a stream's bytes wait for no more than this.
    REGISTER_TURN_S = 0.004

    # After the handshake a worker says what it wants with the same packet; the rest is for slow paths.
    JOIN_S = 10.0
    # How long an old link that seems alive has to answer when the same worker dials anew (docs/architecture.md, "The
    # same worker").
    PROOF_OF_LIFE_S = 2.0

    # Memory for what all sessions of a process hold, where --memory does not say: a quarter of what the machine or its
    # cgroup has, between what bulk transfers need and what the fastest paths can use: both directions of eight sessions
    # at 1 Gbit/s and 250 ms.
    MEMORY_MIN = 48 * 1024 * 1024
    MEMORY_MAX = 512 * 1024 * 1024

    # Dialling the server: the first try after a loss is immediate, then twice as long each time, up to half a minute,
    # each with jitter, so that a thousand workers do not come back in one second.
    RETRY_FIRST_S = 0.5
    # A link that is doubted is replaced after up to so long, by chance, for the same reason.
    DOUBT_JITTER_S = 1.0
    RETRY_MAX_S = 30.0
    # While a session can be resumed, its visitors wait: then the longest wait between two tries is this one for five
    # minutes, and after that a 20th of the time that the server keeps the session, so that one try that fails by chance
    # costs little of it. 1,000 workers that come back at once are 330 handshakes a second, each 1.3 ms of the server's
    # processor (measured); that is less than half of it.
    RETRY_RESUME_S = 4.0
    RESUME_EAGER_S = 300.0
    RESUME_TRIES = 20
    # A worker keeps its half of a session that much longer than the server said: the server noticed the end of the link
    # later, perhaps, and only the server knows when it has given the session up.
    RESUME_MARGIN_S = 15.0
    # A link that was up this long, or carried this much, was good: it is dialled again at once when it is lost. After
    # any other each try waits longer, or a server that drops every link would be dialled a thousand times a second.
    RETRY_GOOD_S = 3.0
    RETRY_GOOD_BYTES = 256 * 1024
    # After a wrong code, an operator's kick, or when another with our identity took our place: slow enough to be no
    # nuisance and to let an operator change what was wrong, quick enough to come back by itself when it is mended.
    RETRY_REFUSED_S = 30.0
    # How often a worker tells the server of changed targets: quick enough for whoever edits a file and looks, and a
    # message a second is what the server allows in the long run.
    REGISTER_EVERY_S = 1.0
    # How long it waits for answers before it says more: a server that asks the holder of a port for a sign of life, and
    # waits for a port that another program uses, needs half of that.
    REGISTER_ANSWER_S = 15.0
    # A target whose port could not be had asks again: whoever holds the port may be gone.
    REGISTER_RETRY_S = 30.0
    # A visitor's way to a target, which is near the worker: its name, a place in the line, the connect.
    TARGET_CONNECT_S = 10.0
    # Connects under way at once, each a descriptor, of all targets together and of each: a target that accepts slowly
    # has visitors waiting in line, and leaves room for the others.
    CONNECTS = 1024
    CONNECTS_A_TARGET = 256
    # Ways to single ports of a target with many that are kept for the next visitor, some 400 bytes each.
    WAYS_A_TARGET = 256
    # How long the addresses behind a name are kept, or that there are none: shorter than any TTL that somebody waits
    # for. An address that does not answer is looked up anew when what is known of it is older than a second.
    NAME_KEPT_S = 5.0
    NAME_FRESH_S = 1.0
    # A resolver that needs longer is in trouble: from then on a name's last known addresses serve until it answers.
    NAME_PATIENCE_S = 2.0
    # Threads that look up servers and their proxies, made as they are needed: one alone for a worker with one server.
    DIAL_THREADS = 4
    # Threads that look targets' names up, for dead names hold theirs for up to half a minute; made as they are needed,
    # some 50 KiB each. Names that are remembered, some 300 bytes each; addresses of one that are used.
    NAME_THREADS = 16
    NAMES = 1024
    ADDRESSES_A_NAME = 16


#: What holds for every worker of which nobody says otherwise.
STANDARD = Limits()
