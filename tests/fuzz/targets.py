"""What is fuzzed: every parser of what peers and visitors send. Only errors that say whose fault it is may come out."""

from __future__ import annotations

from typing import Any

from aero import htpasswd
from aero.address import Address
from aero.core import control, datagrams, features, frames, handshake, joining, record, spake2plus, zstd
from aero.core.codes import Close
from aero.core.datagrams import Drops
from aero.core.flows import Flow, Flows
from aero.core.link import LinkMachine
from aero.core.memory import Memory
from aero.core.packing import Packer
from aero.core.record import RecordReader, RecordWriter
from aero.core.session import SERVER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Stream
from aero.domains import check_domain, check_glob
from aero.errors import ConfigError, DialError, LinkClosed, Rejected, RemoteProtocolError, SecurityError
from aero.net import proxy as proxies
from aero.proxies import Proxy
from aero.server.httpmux import doorman
from aero.server.policy import passwords, permission
from aero.server.registry import domains
from tests.core.joined import PLAIN, SCRATCH
from tests.fuzz import carriage, mux, operator, passage
from tests.fuzz.guided import Target

PASSWORD = spake2plus.Password(0x1234567, 0x89ABCDE)
VERIFIER = spake2plus.Verifier.of(0x1234567, 0x89ABCDE)
NUMBERS = bytes(range(1, handshake.SCALAR_BYTES + 1))


CODECS = [zstd.choose(name) for name in zstd.CODECS]


class Anybody:
    """Owner of everything: takes what comes, as roles do."""

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        stream.session.accept(stream, self._receiver(stream), 0.0)

    def _receiver(self, stream: Stream) -> Any:
        return Taker(stream)

    def control_received(self, message: control.Control) -> None: ...
    def goaway_received(self, code: int, text: str) -> None: ...
    def datagrams_came(self) -> None: ...
    def joining(self, message: joining.Join | joining.Joined) -> None: ...
    def pong_received(self, number: int, round_trip_s: float) -> None: ...
    def close_received(self, code: int, text: str) -> None: ...


class Taker:
    """Receiver that consumes at once and answers an end with an end."""

    def __init__(self, stream: Stream | None = None) -> None:
        self.stream = stream

    def data(self, view: memoryview) -> None:
        if self.stream is not None:
            self.stream.consume(len(view), 1.0)

    def finished(self) -> None:
        if self.stream is not None and self.stream.state == 1:
            self.stream.finish()

    def reset(self, code: int, text: str) -> None: ...
    def resume(self) -> None: ...


def fuzz_link(data: bytes) -> None:
    """Whole records, unsealed: their frames, link's and session's, and all that the session makes of them."""
    memory = Memory(64 << 20)
    secret = bytes(32)
    owner = Anybody()
    link = LinkMachine(
        owner,
        RecordWriter(PLAIN, secret),
        RecordReader(PLAIN, secret),
        SCRATCH,
        60.0,
        0.0,
        features=features.DATAGRAMS | features.ZSTD,
    )
    memory.packer = Packer(CODECS[0], memory.incoming.set_aside)
    session = Session(owner, SERVER_FIRST_ID, memory, SessionLimits(max_streams=8), 0.0)
    session.flows = Flows(session, memory.datagrams, None)
    link.carry(session)
    for number in range(2):
        taker = Taker()
        taker.stream = session.open(taker, number, "visitor", 0.0)
        taker.stream.send(memoryview(b"hello"))
    out = memoryview(bytearray(record.MAX_RECORD_BYTES))
    while link.next_record(out):
        pass
    buffer = memoryview(data)
    now = 0.0
    try:
        start = 0
        while start < len(data):
            end = min(start + 1 + data[start] * 4, len(data))  # arrives in pieces
            done = link.receive(buffer, start, end, now)
            if done == start and end == len(data):
                break
            start = done if done > start else start
            if done == start and end < len(data):
                start = link.receive(buffer, start, len(data), now)
                break
            now += 0.05
            link.handle_deadline(now)
        while link.next_record(out):
            pass
    except RemoteProtocolError as error:
        assert Close.NOT_AERO <= error.code <= Close.DENIED
    except LinkClosed:
        pass
    session.end(0, "over")
    assert not memory.blocks.taken_bytes and not session.streams


def fuzz_packed(data: bytes) -> None:
    """What a PACKED holds: a length, and a frame that both codecs get. Nothing is written beyond that length."""
    payload = memoryview(bytearray(data))
    try:
        count, frame = frames.unpack_packed(payload)
    except RemoteProtocolError:
        return
    got = []
    for codec in CODECS:
        around = memoryview(bytearray(count + 64))
        if bytes(frame[:4]) == zstd.MAGIC and codec.unpack(frame, around[32:-32]):
            got.append(bytes(around[32:-32]))
        assert not any(around[:32]) and not any(around[-32:])
    assert len(set(got)) <= 1


class Conversation:
    """Owner of flows: answers some datagrams, ends a flow where one says so."""

    def __init__(self, drops: Drops) -> None:
        self.drops = drops
        self.flows: list[Flow] = []

    def flow_opened(self, flow: Flow, target_id: int, visitor: str) -> None:
        visitor.encode("utf-8")
        if target_id == 9:
            flow.end(4, "no such target")
        else:
            flow.receiver = Taking(flow)


class Taking:
    """Receiver of a flow."""

    def __init__(self, flow: Flow | None = None) -> None:
        self.flow = flow

    def datagram(self, view: memoryview) -> None:
        assert len(view) <= datagrams.MAX_BYTES and self.flow is not None and not self.flow.ended
        if view[:1] == b"e":
            self.flow.end(0)
        else:
            self.flow.send(bytes(view), 0.0)

    def flow_ended(self, code: int, text: str) -> None:
        assert self.flow is not None and self.flow.ended


def fuzz_datagrams(data: bytes) -> None:
    """A datagram record's plaintext, at the end that opens flows or at the other; the answers are well formed."""
    memory = Memory(64 << 20)
    session = Session(Anybody(), SERVER_FIRST_ID, memory, SessionLimits(), 0.0)
    drops = Drops()
    opens = bool(data) and data[0] & 1
    flows = session.flows = Flows(session, memory.datagrams, None if opens else Conversation(drops))
    flows.link_up()
    for number in range(3 if opens else 0):
        taking = Taking()
        taking.flow = flows.open(taking, number, "visitor", drops)
        taking.flow.send(b"hello", 0.0)
    try:
        flows.receive(memoryview(data[1:]))
    except RemoteProtocolError as error:
        assert Close.NOT_AERO <= error.code <= Close.DENIED
    while flows.waiting:
        for kind, flow_id, payload in frames.split(memoryview(flows.take())):
            assert kind in (datagrams.DATA, datagrams.OPENING, datagrams.KNOWN) and flow_id in flows.by_id
            assert len(payload) <= datagrams.MAX_BYTES + datagrams.MAX_ORIGIN_BYTES
    session.end(0, "over")
    assert not memory.datagrams.taken_bytes and not memory.blocks.taken_bytes and not flows.by_id


def fuzz_permission(data: bytes) -> None:
    """What a hook answers: clear, or not; never anything else."""
    try:
        found = permission.read(data)
    except ConfigError:
        return
    assert isinstance(found.allowed, bool) and 0 <= found.port <= 65535
    assert len(found.why) <= permission.WHY_CHARS + 3 and found.why.isprintable()


def fuzz_messages(data: bytes) -> None:
    """JSON as a payload: what is taken packs to what means the same, and can be shown to people."""
    parse = (joining.parse_join, joining.parse_joined, control.parse_control)[data[0] % 3 if data else 0]
    try:
        message: Any = parse(memoryview(data[1:]))
    except RemoteProtocolError as error:
        str(error).encode("utf-8")
        return
    repr(message).encode("utf-8")
    if isinstance(message, control.Register):
        message = control.Register(
            tuple(each for each in message.targets if isinstance(each, control.Wanted))
        )
    assert parse(memoryview(message.pack())) == message


def fuzz_session(data: bytes) -> None:
    """The plaintext of one session record, taken over by a new link in the middle."""
    memory = Memory(64 << 20)
    session = Session(Anybody(), SERVER_FIRST_ID, memory, SessionLimits(max_streams=8), 0.0)
    for number in range(3):
        taker = Taker()
        taker.stream = session.open(taker, number, "visitor", 0.0)
        taker.stream.send(memoryview(bytes(3000)))
    while session.outbox.next_piece() is not None:
        pass
    try:
        session.receive(memoryview(data), 1.0)
        session.take_over(int.from_bytes(data[-2:], "big"))
        while session.outbox.next_piece() is not None:
            pass
    except RemoteProtocolError as error:
        assert Close.NOT_AERO <= error.code <= Close.DENIED
    session.end(0, "over")
    assert not memory.blocks.taken_bytes and not session.streams


def fuzz_server_handshake(data: bytes) -> None:
    """What strangers send to a server; the first byte says where it is cut in two."""
    machine = handshake.ServerHandshake(lambda user: VERIFIER, NUMBERS)
    _talk(machine, data)


def fuzz_worker_handshake(data: bytes) -> None:
    """What something that stands in for a server answers."""
    machine = handshake.WorkerHandshake(PASSWORD, "user", NUMBERS)
    machine.start()
    _talk(machine, data)


def _talk(machine: handshake.ServerHandshake | handshake.WorkerHandshake, data: bytes) -> None:
    cut = data[0] if data else 0
    try:
        for piece in (data[1 : 1 + cut], data[1 + cut :]):
            machine.receive(piece)
    except (RemoteProtocolError, SecurityError, Rejected) as error:
        assert len(str(error)) < 1000


def fuzz_basic(data: bytes) -> None:
    """Authorization, from a request's header lines, and a line of an htpasswd file from a worker's options."""
    said = doorman.parse_basic(data)
    assert said is None or (b":" not in said.user and len(said.password) <= doorman.PASSWORD_BYTES)
    try:
        line = htpasswd.check_line(data.decode("utf-8", "surrogateescape"))
    except ConfigError:
        return
    logins = passwords.Logins.of({"auth": [line]})
    assert logins is not None and len(logins.proofs) == 1


def fuzz_domain(data: bytes) -> None:
    """A target's own host name, as a worker says it, and the Host of who asks for one."""
    try:
        name = check_domain(data.decode("utf-8", "surrogateescape"))
    except ConfigError:
        name = ""
    if name:
        assert check_domain(name) == check_glob(name) == name and domains.bare(name.encode()) == name.encode()
        assert domains.bare(name.upper().encode() + b".:80") == name.encode()
    domains.bare(data)


def fuzz_proxy(data: bytes) -> None:
    """What a proxy says, in pieces: each kind of proxy, with a login and without."""
    proxy = _PROXIES[data[0] % len(_PROXIES)] if data else _PROXIES[0]
    machine: proxies.Machine = (proxies.Connect if proxy.scheme == "http" else proxies.Socks)(proxy, _SERVER)
    machine.start()
    step = max(1, len(data) // 3)
    try:
        for at in range(1, len(data), step):
            if machine.done:
                break
            machine.receive(data[at : at + step])
    except DialError as error:
        text = str(error)
        assert text.isprintable() and len(text) < 300 and "geheim" not in text, text


def _packed(codec: zstd.Codec, data: bytes) -> bytes:
    out = memoryview(bytearray(len(data) + 64))
    count = codec.pack(memoryview(bytearray(data)), out)
    return len(data).to_bytes(4, "big") + bytes(out[:count])


def _record(kind: int, *parts: bytes) -> bytes:
    plain = b"".join(parts)
    return record.HEADER.pack(kind << 24 | len(plain)) + plain + bytes(record.TAG_BYTES)


def _hello() -> bytes:
    return handshake.WorkerHandshake(PASSWORD, "user", NUMBERS).start()


def _server_hello() -> bytes:
    return handshake.ServerHandshake(lambda user: VERIFIER, NUMBERS[::-1]).receive(_hello())


_TARGETS = (
    control.Wanted(1, "web", "h:80", 80, 81, options={"visitors": ["a"]}),
    control.Wanted(2, "b", "[::1]:1"),
    control.Wanted(3, "c", "unix:/c"),
    control.Wanted(4, "d", "h:5-9", row=5),
)
_ANSWERS = (
    control.Answer(1, "web", 80, ("[::]:80",), {"a": 1}),
    control.Answer(2, "b", error="taken", text="no"),
)
_CONTROLS = [
    control.Register(_TARGETS),
    control.Registered(_ANSWERS),
    control.Unregister((1, 2)),
    control.Seen((control.Look(1, "no"), control.Look(2))),
    control.AddedTargets((control.Added("db", "h:5432"), control.Added("dns", "unix:/c", "udp", 53))),
    control.Declined((control.Decline("db", "tcp", "no"),)),
    control.Unknown("x"),
]
_PACKED = [
    _packed(codec, data)
    for codec in CODECS
    for data in (bytes(5000), bytes(range(256)), b"hello, hello, hello! " * 40)
]
_FRAMES = [
    frames.pack(frames.OPEN, 2, frames.pack_open(65536, 1, "v")),
    frames.pack(frames.DATA, 2, b"data"),
    frames.pack(frames.DATA, 1, b"data"),
    frames.pack(frames.FIN, 1),
    frames.pack(frames.FIN, 2),
    frames.pack(frames.RESET, 3, frames.pack_reason(1, "why")),
    frames.pack(frames.WINDOW, 1, frames.pack_window(5, 65536)),
    frames.pack(frames.GOAWAY, 0, frames.pack_reason(1, "bye")),
    frames.pack(frames.FLOW_END, 1, frames.pack_reason(1, "refused")),
    *(frames.pack(frames.PACKED, number, each) for number, each in enumerate(_PACKED[:3])),
    *(frames.pack(frames.CONTROL, 0, each.pack()) for each in _CONTROLS),
]
_DATAGRAMS = [
    frames.pack(datagrams.DATA, 1, b"data"),
    frames.pack(datagrams.DATA, 2),
    frames.pack(datagrams.OPENING, 1, datagrams.pack_origin(1, "192.0.2.7:53") + b"query"),
    frames.pack(datagrams.OPENING, 3, datagrams.pack_origin(9, "[::1]:53")),
    frames.pack(datagrams.KNOWN, 1),
]
_JOINS = [
    joining.JoinNew("1", 60, "i", "t", "h"),
    joining.JoinBeside("1", 60, "s", "x"),
    joining.JoinTakeOver("1", 60, "s", "x", 2, 7),
    joining.JoinInvited("1", "h", "abcd", "spake2plus$A"),
]
_JOINEDS = [
    joining.JoinedNew("1", "c", "s", "x", 60),
    joining.JoinedAgain("1", "s", 7),
    joining.Welcome("1", "ci+abcd", "t", "h:1"),
]
_LINK_FRAMES = [
    frames.pack(frames.PING, 0, bytes(8)),
    frames.pack(frames.PONG, 0, b"\0" * 7 + b"\1"),
    frames.pack(frames.ACK, 0, b"\0" * 7 + b"\5"),
    frames.pack(frames.JOIN, 0, joining.JoinNew("1", 60, "i", "t", "h").pack()),
    frames.pack(frames.JOINED, 0, joining.JoinedNew("1", "c", "s", "x", 60).pack()),
    frames.pack(frames.CLOSE, 0, frames.pack_reason(1, "bye")),
]
_HANDSHAKE = [handshake.message(kind, bytes(size)) for kind, size in ((1, 71), (2, 69), (3, 32), (15, 1))]


_SERVER = Address("aero.example.org", 443)
_PROXIES = [
    Proxy.parse(f"{scheme}://{login}proxy.corp:1")
    for scheme in ("http", "socks5h")
    for login in ("", "eva:geheim@")
]
_PROXY_WORDS = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 407 x\r\n", b"HTTP/1.1 100 x\r\n\r\n", b"HTTP/1.1 302 x\r\nLocation: /\r\n",
    b"Proxy-Authenticate: Basic\r\n", b"Content-Type: text/html\r\n", b"\r\n", b"\n\n",
    b"\5\0", b"\5\2", b"\1\0", b"\5\0\0\1", b"\5\0\0\3", b"\5\0\0\4", bytes(6), b"\5\5",
]  # fmt: skip

#: Name → what is called, the first inputs, words that inputs are made of.
TARGETS: dict[str, tuple[Target, list[bytes], list[bytes]]] = {
    "link": (
        fuzz_link,
        [
            _record(record.SESSION, *_FRAMES),
            _record(record.DATAGRAMS, *_DATAGRAMS),
            *(_record(record.LINK, each) for each in _LINK_FRAMES),
        ],
        [
            *(_record(1, each) for each in _FRAMES),
            *(_record(2, each) for each in _LINK_FRAMES),
            *(_record(3, each) for each in _DATAGRAMS),
        ],
    ),
    "messages": (
        fuzz_messages,
        [
            bytes((way,)) + each.pack()
            for way, kind in enumerate((_JOINS, _JOINEDS, _CONTROLS))
            for each in kind
        ],
        [
            b'"options":{',
            b'"had":1',
            b'"role":"node"',
            b"\\ud800",
            b"1e999",
            b"null",
            b"true",
            b"[]",
            b"{}",
            b"-1",
        ],
    ),
    "datagrams": (
        fuzz_datagrams,
        [bytes((way,)) + b"".join(each) for way in (0, 1) for each in (_DATAGRAMS, _DATAGRAMS[:1])],
        _DATAGRAMS,
    ),
    "packed": (fuzz_packed, _PACKED, [*_PACKED, zstd.MAGIC, b"\0\0\0\1", b"\xc3\x12\0", b"\x50\x2a\x4d\x18"]),
    "session": (fuzz_session, [b"".join(_FRAMES), *_FRAMES], _FRAMES),
    "server_handshake": (fuzz_server_handshake, [b"\xff" + _hello()], [*_HANDSHAKE, _hello()]),
    "worker_handshake": (fuzz_worker_handshake, [b"\xff" + _server_hello()], [*_HANDSHAKE, _server_hello()]),
    "proxy": (
        fuzz_proxy,
        [
            *(bytes((way,)) + b"HTTP/1.1 200 OK\r\nVia: x\r\n\r\n" for way in (0, 1)),
            b"\0HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n",
            b"\2\5\0\5\0\0\1" + bytes(6),
            b"\3\5\2\1\0\5\0\0\3\1x\0\0",
        ],
        _PROXY_WORDS,
    ),
    "domain": (
        fuzz_domain,
        [b"app.example.org", b"xn--bcher-kva.example", "bücher.example".encode(), b"A-b.c."],
        [b".", b"-", b"xn--", b":80", b"localhost", b"127.0.0.1", b"\xc3\xbc", b"\xe3\x80\x82", b"[::1]"],
    ),
    "basic": (
        fuzz_basic,
        [b"Authorization: Basic YTpi\r\n", b"a:$apr1$abcdefgh$0123456789012345678901"],
        [b"Basic ", b"authorization:", b"\r\n", b"==", b"$2y$05$", b"$6$rounds=1000$", b"$5$a$"],
    ),
    "mux_head": (mux.fuzz_head, [mux.REQUEST, mux.RESPONSE], mux.WORDS),
    "mux_body": (
        mux.fuzz_body,
        [b"\xff" + mux.CHUNKS, b"\0" + mux.CHUNKS],
        [mux.CHUNKS, b"0\r\n", *mux.WORDS],
    ),
    "mux_visitor": (mux.fuzz_visitor, mux.VISITS, mux.VISIT_WORDS),
    "hook_permission": (
        fuzz_permission,
        [b'{"allow": true, "port": 20001}', b'{"allow": false, "why": "not today"}'],
        [b'"allow"', b'"why"', b'"port"', b"true", b"false"],
    ),
    **carriage.TARGETS,
    **passage.TARGETS,
    **operator.TARGETS,
}
