"""The worked example of docs/PROTOCOL.md, replayed through the real code: both ends say exactly these bytes."""

from __future__ import annotations

import hashlib
import hmac
import re
import struct
from pathlib import Path
from typing import Any

import pytest

from aero.config import values
from aero.core import (
    codes,
    control,
    datagrams,
    features,
    flight,
    frames,
    handshake,
    joining,
    link,
    packing,
    record,
    session,
    spake2plus,
    stretch,
)
from aero.core.aead.backend import Backend
from aero.core.aead.choose import BACKENDS, choose
from aero.core.datagrams import Drops
from aero.core.digest import hkdf_expand
from aero.core.flows import FLOW_BYTES, LINK_BYTES, MAX_AGE_S, OVERHEAD_BYTES, Flow, Flows
from aero.core.handshake import ServerHandshake, WorkerHandshake
from aero.core.link import LinkMachine
from aero.core.memory import Memory, Room
from aero.core.record import RecordReader, RecordWriter
from aero.core.session import SERVER_FIRST_ID, WORKER_FIRST_ID, Session, SessionLimits
from aero.core.stream import Stream
from aero.errors import HostError
from aero.limits import Limits
from aero.server.registry import terms
from tests.core.joined import SCRATCH, Joined

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```((?:hex|json) [a-z0-9-]+)\n(.*?)^```$", TEXT, re.M | re.S))
WORKER_RANDOM, SERVER_RANDOM = bytes(range(0x00, 0x30)), bytes(range(0x30, 0x60))
CODE = "correct horse"
NOW = 100.0


def example(name: str) -> bytes:
    """A hex block; what stands behind # is for people."""
    return bytes.fromhex(re.sub(r"#.*", "", BLOCKS[f"hex {name}"]))


def message(name: str) -> memoryview:
    return memoryview(BLOCKS[f"json {name}"].encode())


JOIN = joining.parse_join(message("join"))
JOINED = joining.parse_joined(message("joined"))

W0, W1 = stretch.stretch(CODE, "")
PASSWORD, VERIFIER = spake2plus.Password(W0, W1), spake2plus.Verifier.of(W0, W1)


def backends() -> list[Backend]:
    found = []
    for name in BACKENDS:
        try:
            found.append(choose(name))
        except HostError:
            continue  # tests/core/aead/test_backend.py says which ones this interpreter lacks
    return found


def test_the_code_gives_w0_w1_and_l() -> None:
    """By hand, as the page says it is done."""
    password = b"".join(struct.pack("<Q", len(part)) + part for part in (CODE.encode(), b"", b"server"))
    salt = b"AeRO-proxy SPAKE2+ auth code"
    derived = hashlib.scrypt(password, salt=salt, n=2**14, r=8, p=1, maxmem=1 << 26, dklen=96)
    for half, scalar, name in ((derived[:48], W0, "w0"), (derived[48:], W1, "w1")):
        assert 1 + int.from_bytes(half, "big") % (stretch.ORDER - 1) == scalar
        assert scalar.to_bytes(32, "big") == example(name)
    assert spake2plus._encode(VERIFIER.public) == example("l")


def test_the_keys_follow_from_z_and_v() -> None:
    """By hand again: the transcript, K_main, the proofs, K_shared and the two secrets."""
    hello, server_hello = example("hello"), example("server-hello")
    share_p, share_v = hello[8:73], server_hello[8:73]
    m, n = spake2plus._encode(spake2plus._M), spake2plus._encode(spake2plus._N)
    context = b"AeRO-proxy link" + hello + server_hello
    parts = (context, b"", b"server", m, n, share_p, share_v, example("z"), example("v"), example("w0"))
    main = hashlib.sha256(b"".join(struct.pack("<Q", len(part)) + part for part in parts)).digest()
    assert main == example("k-main")
    extracted = hmac.digest(bytes(32), main, "sha256")
    confirming, shared = (
        hkdf_expand(extracted, b"ConfirmationKeys", 64),
        hkdf_expand(extracted, b"SharedKey", 32),
    )
    assert hmac.digest(confirming[:32], share_v, "sha256") == example("worker-confirm")[8:]
    assert hmac.digest(confirming[32:], share_p, "sha256") == example("server-confirm")[8:]
    assert shared == example("k-shared")
    assert hkdf_expand(shared, b"aero worker to server", 32) == example("upward")
    assert hkdf_expand(shared, b"aero server to worker", 32) == example("downward")


def test_the_handshake_is_the_examples() -> None:
    ours = WorkerHandshake(PASSWORD, "", WORKER_RANDOM, features.DATAGRAMS)
    theirs = ServerHandshake(lambda user: VERIFIER, SERVER_RANDOM, lambda _: features.DATAGRAMS)
    assert ours.start() == example("hello")
    assert theirs.receive(example("hello")) == example("server-hello")
    assert ours.receive(example("server-hello")) == example("worker-confirm")
    assert theirs.receive(example("worker-confirm")) == example("server-confirm")
    assert ours.receive(example("server-confirm")) == b""
    assert ours._keys.shared == theirs._keys.shared == example("k-shared")
    assert ours.secrets == (example("upward"), example("downward"), features.DATAGRAMS)
    assert theirs.secrets == (example("downward"), example("upward"), features.DATAGRAMS)


def test_the_first_key_and_iv() -> None:
    assert hkdf_expand(example("upward"), b"aero key", 16) == example("upward-key")
    assert hkdf_expand(example("upward"), b"aero iv", 12) == example("upward-iv")


class Side:
    """One end alone: what it says is compared with the page, what it hears comes from there."""

    def __init__(self, backend: Backend, first_id: int, ours: str, theirs: str) -> None:
        self.heard: list[Any] = []
        self.session = Session(self, first_id, Memory(64 << 20), SessionLimits(), NOW)
        writer, reader = RecordWriter(backend, example(ours)), RecordReader(backend, example(theirs))
        self.link = LinkMachine(self, writer, reader, SCRATCH, 60.0, NOW, features=features.DATAGRAMS)
        opened_here = first_id == SERVER_FIRST_ID
        self.session.flows = self.flows = Flows(self.session, Room(1 << 20), None if opened_here else self)
        self.link._ping_at = NOW + 60.0  # the page leaves pings out

    def hear(self, name: str) -> None:
        data = memoryview(example(name))
        assert self.link.receive(data, 0, len(data), NOW) == len(data)

    def says(self) -> bytes:
        out = memoryview(bytearray(1000))
        return bytes(out[: self.link.next_record(out)])

    def joining(self, received: joining.Join | joining.Joined) -> None:
        if received == JOIN:
            self.link.joined(JOINED)
        else:
            assert received == JOINED
        self.link.carry(self.session)

    def stream_opened(self, stream: Stream, target_id: int, visitor: str) -> None:
        self.heard.append((stream.id, stream.send_limit, target_id, visitor))
        self.session.accept(stream, self, NOW)
        assert self.session.next_piece() is not None  # a WINDOW, which the page leaves out

    def data(self, view: memoryview) -> None:
        self.heard.append(bytes(view))

    def flow_opened(self, flow: Flow, target_id: int, visitor: str) -> None:
        self.heard.append((flow.id, target_id, visitor))
        flow.receiver, self.flow = self, flow

    def datagram(self, view: memoryview) -> None:
        self.heard.append(bytes(view))

    def flow_ended(self, code: int, text: str) -> None:
        raise AssertionError("no FLOW_END is on the page")

    def control_received(self, received: control.Control) -> None:
        raise AssertionError("no control message is on the page")

    def datagrams_came(self) -> None:
        """No flows here."""

    def goaway_received(self, code: int, text: str) -> None:
        raise AssertionError("no GOAWAY is on the page")

    def pong_received(self, number: int, round_trip_s: float) -> None:
        raise AssertionError("no PONG is on the page")

    def close_received(self, code: int, text: str) -> None:
        raise AssertionError("no CLOSE is on the page")

    def finished(self) -> None:
        raise AssertionError("no FIN is on the page")

    def reset(self, code: int, text: str) -> None:
        raise AssertionError("no RESET is on the page")

    def resume(self) -> None:
        """Nothing waits."""


@pytest.mark.parametrize("backend", backends(), ids=lambda backend: backend.description.split()[0])
def test_the_records_are_the_examples(backend: Backend) -> None:
    worker = Side(backend, WORKER_FIRST_ID, "upward", "downward")
    server = Side(backend, SERVER_FIRST_ID, "downward", "upward")
    worker.link.join(JOIN)
    assert worker.says() == example("join-sealed")
    server.hear("join-sealed")
    assert server.says() == example("joined-sealed")
    worker.hear("joined-sealed")
    stream = server.session.open(server, 1, "192.0.2.7:40312", NOW)
    stream.send(memoryview(b"GET / HTTP/1.0\r\n\r\n"))
    assert server.says() == example("open-sealed")
    worker.hear("open-sealed")
    assert worker.heard == [(1, 262_144, 1, "192.0.2.7:40312"), b"GET / HTTP/1.0\r\n\r\n"]
    worker.link.handle_deadline(NOW + 0.1)
    assert worker.says() == example("ack-sealed")
    server.hear("ack-sealed")
    assert server.session.outbox.acked == server.session.outbox.written == len(example("open-plain"))
    server.flows.open(server, 2, "192.0.2.7:5353", Drops()).send(b"ping?", 0.0)
    assert server.says() == example("query-sealed")
    worker.hear("query-sealed")
    worker.flow.send(b"pong!", 0.0)
    assert worker.says() == example("reply-sealed")
    server.hear("reply-sealed")
    assert worker.heard[-2:] == [(1, 2, "192.0.2.7:5353"), b"ping?"] and server.heard == [b"pong!"]


@pytest.mark.parametrize(
    ("name", "secret", "number"),
    [
        ("join", "upward", 0),
        ("open", "downward", 1),
        ("ack", "upward", 1),
        ("query", "downward", 2),
        ("reply", "upward", 2),
    ],
)
def test_the_plaintexts_are_the_examples(name: str, secret: str, number: int) -> None:
    """Opened by hand, as the page says it is done."""
    key, iv = hkdf_expand(example(secret), b"aero key", 16), hkdf_expand(example(secret), b"aero iv", 12)
    nonce = (int.from_bytes(iv, "big") ^ number).to_bytes(12, "big")
    sealed = example(f"{name}-sealed")
    plain = memoryview(bytearray(len(sealed) - record.OVERHEAD_BYTES))
    choose().opener(key).open(nonce, sealed[:4], memoryview(sealed)[4:], plain)
    assert bytes(plain) == example(f"{name}-plain")


def test_compressed_data_is_read_as_the_page_says() -> None:
    joined = Joined(features=features.DATAGRAMS | features.ZSTD)
    joined.memory.packer = packing.make(joined.memory.incoming.set_aside)
    sink = joined.server.open()
    joined.run()
    joined.worker.feed(example("packed-plain"))
    assert joined.worker.sinks[1].got == b"a" * 600
    assert sink.stream is not None


def test_every_block_of_the_page_is_replayed() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    for block in BLOCKS:
        name = block.split()[1]
        assert f'"{name}"' in source or re.fullmatch(
            r"(join|open|ack|query|reply|join-invited|welcome|add|declined|register|registered|health)-plain",
            name,
        )


# The tables of the page are those of the code


def rows(section: str) -> str:
    return TEXT.split(f"\n## {section}\n")[1].split("\n## ")[0]


def test_the_page_names_every_frame() -> None:
    named = {int(kind, 16): name for kind, name in re.findall(r"(0x[0-9a-f]{2}) ([A-Z_]+)", rows("Frames"))}
    assert named == frames.NAMES


@pytest.mark.parametrize(
    ("section", "names"), [("Close codes", codes.CLOSE_NAMES), ("Reset codes", codes.RESET_NAMES)]
)
def test_the_page_names_every_code(section: str, names: dict[int, str]) -> None:
    found = {int(code): text for code, text in re.findall(r"\| (\d+) \| ([^|]+) ", rows(section))}
    assert sorted(found) == sorted(names)
    for code, name in names.items():
        assert name.split()[0] in found[code]


@pytest.mark.parametrize(
    ("section", "number"),
    [
        ("Records", record.MAX_PLAIN_BYTES),
        ("Frames", frames.MAX_JSON_BYTES),
        ("Frames", frames.MAX_TEXT_BYTES),
        ("Frames", frames.MAX_VISITOR_BYTES),
        ("Handshake", handshake.MAX_BODY_BYTES),
        ("Handshake", handshake.MAX_USER_BYTES),
        ("Frames", frames.MAX_PACKED_BYTES),
        ("Compressed data", packing.LEAST_BYTES),
        ("Compressed data", packing.FIRST_PAUSE_BYTES),
        ("Compressed data", packing.LONGEST_PAUSE_BYTES),
        ("Credit", session.OPEN_CREDIT_BYTES),
        ("Credit", session.MAX_WINDOW_BYTES),
        ("Credit", session.LARGE_WINDOW_BYTES),
        ("Acknowledgement and takeover", link.ACK_OPENS),
        ("Acknowledgement and takeover", flight.ACK_BYTES),
        ("Acknowledgement and takeover", flight.ACK_DELAY_S),
        ("Acknowledgement and takeover", flight.BULK_BYTES),
        ("Datagrams", datagrams.MAX_BYTES),
        ("Datagrams", MAX_AGE_S),
        ("Datagrams", FLOW_BYTES >> 10),
        ("Datagrams", LINK_BYTES >> 20),
        ("Datagrams", OVERHEAD_BYTES),
        ("Datagrams", Limits.FLOW_ENDS_BURST),
        ("Datagrams", int(Limits.FLOW_ENDS_PER_S)),
        ("Limits", SessionLimits().max_streams),
        ("Limits", link.MAX_PINGS),
        ("Limits", link.MAX_LINK_FRAMES_BYTES >> 10),
        ("Limits", (SessionLimits().kept_bytes + SessionLimits().kept_slack_bytes) >> 20),
        ("Limits", Limits.CONTROL_BURST),
        ("Control messages", Limits.TARGETS_PER_WORKER),
        ("Joining", int(Limits.JOIN_S)),
        ("Joining", int(Limits.PROOF_OF_LIFE_S)),
        ("Joining", values.PING_S[1]),
    ],
)
def test_the_numbers_of_the_page_are_the_codes(section: str, number: float) -> None:
    assert re.search(
        rf"(?<![\d,.]){re.escape(f'{number:,}')}(?![\d])|(?<![\d,.]){number}(?!\d)", rows(section)
    )


def test_the_page_counts_records_for_a_key_as_the_code_does() -> None:
    assert record.REKEY_RECORDS == 2**20
    assert "After 2^20 records" in rows("Keys")
    assert stretch._SALT.decode() in rows("Handshake")
    assert handshake._CONTEXT.decode() in rows("Handshake")
    resumable = " or ".join(map(str, codes.RESUMABLE))
    assert f"ends with code {resumable}" in rows("Acknowledgement and takeover")


def test_every_section_that_the_code_cites_is_there() -> None:
    headings = set(re.findall(r"^## (.+)$", TEXT, re.M))
    for path in (ROOT / "aero").rglob("*.py"):
        for cited in re.findall(r'PROTOCOL\.md, (?:section )?"([^"]+)"', path.read_text(encoding="utf-8")):
            assert cited in headings, f"{path.name} cites {cited}"


def test_messages_are_the_examples() -> None:
    parsers: dict[str, tuple[int, Any]] = {
        "join-invited": (frames.JOIN, joining.parse_join),
        "welcome": (frames.JOINED, joining.parse_joined),
        "add": (frames.CONTROL, control.parse_control),
        "declined": (frames.CONTROL, control.parse_control),
        "register": (frames.CONTROL, control.parse_control),
        "registered": (frames.CONTROL, control.parse_control),
        "health": (frames.CONTROL, control.parse_control),
    }
    for name, (kind, parse) in parsers.items():
        said = parse(message(name))
        assert not isinstance(said, control.Unknown)
        assert frames.pack(kind, 0, said.pack()) == example(f"{name}-plain"), name
    assert spake2plus.Verifier.read(joining.parse_join(message("join-invited")).verifier)  # type: ignore[union-attr]


def test_the_options_of_the_example_are_read_by_a_server() -> None:
    said = control.parse_control(message("register"))
    assert isinstance(said, control.Register)
    for each in said.targets:
        assert isinstance(each, control.Wanted) and terms.read(each.options, each.proto) == each.options
