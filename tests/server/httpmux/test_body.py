"""Bodies on their way through: whole, byte by byte and with a tail they are the same; nothing is kept or invented."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aero.errors import MessageError
from aero.server.httpmux.body import Transfer, chunk, last_chunk
from aero.server.httpmux.head import CHUNKED, NO_BODY, UNTIL_CLOSE

TAIL = b"GET /next HTTP/1.1\r\n"


def run(transfer: Transfer, data: bytes, step: int) -> tuple[bytes, int]:
    """Feeds ``data`` in pieces of ``step`` bytes; what came out, and how much was used."""
    out, at = b"", 0
    while at < len(data) and not transfer.done:
        sent, used = transfer.feed(memoryview(data[at : at + step]))
        assert transfer.done or used == len(data[at : at + step])
        out += bytes(sent)
        at += used
    return out, at


def unchunk(data: bytes) -> bytes:
    """A decoder of the plainest kind."""
    body = b""
    while True:
        size, _, data = data.partition(b"\r\n")
        if size == b"0":
            return body
        body += data[: int(size, 16)]
        data = data[int(size, 16) + 2 :]


@given(st.lists(st.binary(min_size=1, max_size=50), max_size=6), st.integers(1, 80), st.booleans())
def test_chunks(chunks: list[bytes], step: int, extended: bool) -> None:
    extension = b";a=b" if extended else b""
    data = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    data += b"0\r\nX-Sum: 1\r\nContent-Length: 5\r\n\r\n"
    transfer = Transfer(CHUNKED)
    assert run(transfer, data + TAIL, step) == (b"".join(chunks), len(data))
    assert transfer.done and not transfer.verbatim
    assert transfer.trailers == b"X-Sum: 1\r\n", "a trailer that only a head may say stays behind"


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_what_is_framed_in_chunks_reads_as_the_same(pieces: list[bytes]) -> None:
    out = b"".join(part for piece in pieces for part in chunk(piece)) + last_chunk(b"X-Sum: 1\r\n")
    assert unchunk(out) == b"".join(pieces)
    assert out.endswith(b"0\r\nX-Sum: 1\r\n\r\n")
    assert run(Transfer(CHUNKED), out + TAIL, 7) == (b"".join(pieces), len(out))


@given(st.binary(min_size=1, max_size=100), st.integers(1, 120))
def test_counted_bodies(body: bytes, step: int) -> None:
    transfer = Transfer(len(body))
    assert transfer.verbatim
    assert run(transfer, body + TAIL, step) == (body, len(body))
    assert transfer.done
    transfer.finish()


@given(st.binary(max_size=100), st.integers(1, 120))
def test_a_body_until_the_end(body: bytes, step: int) -> None:
    transfer = Transfer(UNTIL_CLOSE)
    assert run(transfer, body, step) == (body, len(body))
    assert not transfer.done
    transfer.finish()
    assert transfer.done


def test_no_body() -> None:
    assert Transfer(NO_BODY).done and Transfer(0).done


@pytest.mark.parametrize("transfer", [Transfer(5), Transfer(CHUNKED)])
def test_an_early_end_is_an_error(transfer: Transfer) -> None:
    with pytest.raises(MessageError, match="too early"):
        transfer.finish()


@settings(max_examples=200)
@given(
    st.lists(
        st.sampled_from([b"3", b"a", b"abc", b"\r\n", b"\n", b"\r", b";x", b"0", b" ", b":", b"\0", b"A: b"])
    ).map(b"".join),
    st.integers(1, 9),
)
def test_any_bytes_in_any_pieces_are_the_same(data: bytes, step: int) -> None:
    def outcome(size: int) -> tuple[bytes, int] | str:
        transfer = Transfer(CHUNKED)
        try:
            return run(transfer, data, size)
        except MessageError as error:
            return str(error)

    whole, cut = outcome(len(data) or 1), outcome(step)
    if isinstance(whole, str):
        assert isinstance(cut, str)  # which rule is named may depend on where the pieces end
    else:
        assert whole == cut
