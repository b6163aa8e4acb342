"""The header of the PROXY protocol, versions 1 and 2: in front of a TCP connection's bytes, who made it and where to.

Source: the specification "The PROXY protocol, versions 1 & 2" of HAProxy (doc/proxy-protocol.txt). Pure: bytes in, an
address out; texts of addresses are as the system writes them.
"""

from __future__ import annotations

import socket
import struct
from typing import Callable, NamedTuple

from aero.core.codes import Close
from aero.errors import RemoteProtocolError

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_FIXED = struct.Struct("!12sBBH")  # signature, version and command, family and protocol, length of the rest
_V1_BEGINS = b"PROXY "
V1_MAX_BYTES = 107  # with its CR and LF; section 2.1
#: Addresses take 36 bytes at most; the rest is for TLVs, of which a certificate's are the longest.
V2_MAX_BYTES = 4096

_LOCAL, _PROXY = 0x20, 0x21
_TCP4, _TCP6 = 0x11, 0x21
_PACKED = {_TCP4: (socket.AF_INET, 4), _TCP6: (socket.AF_INET6, 16)}
_TLV = struct.Struct("!BH")
_CRC32C = 0x03
_CRC_BYTES = 4


class End(NamedTuple):
    """One end of a TCP connection."""

    ip: str
    port: int


def nowhere() -> End:
    """An end that nobody knows."""
    return End("", 0)


def peer(text: str) -> End:
    """A peer from the text that OPEN has: ``ip:port``, ``[ip]:port``; an ip that is "" where the text is no address."""
    ip, _, port = text.rpartition(":")
    return End(ip.strip("[]"), int(port)) if port.isdigit() else End("", 0)


#: Says where a visitor's connection arrived; asked only where a header is due.
Arrived = Callable[[], End]


def header(option: object, visitor: str, arrived: End) -> memoryview:
    """What a target with the option ``proxy=`` gets first. ``visitor``: as OPEN has it."""
    return memoryview(write(1 if option == "v1" else 2, peer(visitor), arrived))


def split(data: bytes) -> tuple[int, bool]:
    """(how many bytes of ``data`` belong to the header, whether that is all of it).

    Raises RemoteProtocolError for what is no header, as early as that shows.
    """
    if data.startswith(SIGNATURE[: len(data)]):
        if len(data) < _FIXED.size:
            return len(data), False
        _, command, _, length = _FIXED.unpack_from(data)
        if command >> 4 != 2:
            raise _wrong(f"version {command >> 4} of the header is unknown")
        if length > V2_MAX_BYTES:
            raise _wrong(f"a header of {length} bytes, allowed are {V2_MAX_BYTES}")
        whole = _FIXED.size + length
        return min(whole, len(data)), len(data) >= whole
    if data.startswith(_V1_BEGINS[: len(data)]):
        end = data.find(b"\n", 0, V1_MAX_BYTES)
        if end >= 0:
            return end + 1, True
        if len(data) >= V1_MAX_BYTES:
            raise _wrong(f"a first line without an end in {V1_MAX_BYTES} bytes")
        return len(data), False
    raise _wrong("no PROXY header stands in front")


def parse(header: bytes) -> End | None:
    """Who made the connection, by a whole header; None where it is the proxy's own, or of a kind without addresses.

    Raises RemoteProtocolError.
    """
    return _parse_v2(header) if header.startswith(SIGNATURE) else _parse_v1(header)


def _parse_v1(header: bytes) -> End | None:
    if not header.endswith(b"\r\n"):
        raise _wrong("the first line ends without CR and LF")
    words = header[:-2].split(b" ")
    if words[1:2] == [b"UNKNOWN"]:
        return None
    family = {b"TCP4": socket.AF_INET, b"TCP6": socket.AF_INET6}.get(words[1]) if len(words) == 6 else None
    if family is None:
        raise _wrong("a first line that is neither TCP4, TCP6 nor UNKNOWN")
    peers = [_text_end(family, words[at], words[at + 2]) for at in (2, 3)]
    return peers[0]


def _text_end(family: int, ip: bytes, port: bytes) -> End:
    try:
        packed = socket.inet_pton(family, ip.decode("ascii"))
    except (OSError, ValueError):
        raise _wrong("an address that is none") from None
    if not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise _wrong("a port that is none")
    return End(_text(packed), int(port))


def _parse_v2(header: bytes) -> End | None:
    _, command, family, _ = _FIXED.unpack_from(header)
    if command not in (_LOCAL, _PROXY):
        raise _wrong(f"command {command & 15} is unknown")
    size = 2 * _PACKED[family][1] + 4 if family in _PACKED else 0
    rest = header[_FIXED.size :]
    if command == _PROXY and len(rest) < size:
        raise _wrong("its addresses are cut short")
    if command == _LOCAL or family not in _PACKED:
        return None  # a health check's, or a UNIX socket's or datagram's: no address that we could use
    _check_sum(header, _FIXED.size + size)
    half = _PACKED[family][1]
    return End(_text(rest[:half]), int.from_bytes(rest[2 * half : 2 * half + 2], "big"))


def _check_sum(header: bytes, at: int) -> None:
    """RemoteProtocolError where the TLVs from ``at`` on are cut short, or hold a checksum that is wrong (2.2.2)."""
    while at < len(header):
        if at + _TLV.size > len(header):
            raise _wrong("a TLV is cut short")
        kind, length = _TLV.unpack_from(header, at)
        at += _TLV.size
        if at + length > len(header):
            raise _wrong("a TLV is cut short")
        if kind == _CRC32C:
            zeroed = header[:at] + bytes(length) + header[at + length :]
            if length != _CRC_BYTES or crc32c(zeroed) != int.from_bytes(header[at : at + length], "big"):
                raise _wrong("its checksum is wrong")
        at += length


def write(version: int, source: End, destination: End) -> bytes:
    """A header of version 1 or 2. Where one address is IPv4 and the other IPv6, both are written as IPv6.

    An ``ip`` that is "" (nobody knows who it is) makes a header that says so.
    """
    if not source.ip or not destination.ip:
        return b"PROXY UNKNOWN\r\n" if version == 1 else _FIXED.pack(SIGNATURE, _PROXY, 0, 0)
    ends = [_packed(source.ip), _packed(destination.ip)]
    if len(ends[0]) != len(ends[1]):
        ends = [end if len(end) == 16 else _MAPPED + end for end in ends]
    six = len(ends[0]) == 16
    if version == 1:
        texts = [socket.inet_ntop(socket.AF_INET6 if six else socket.AF_INET, end) for end in ends]
        kind = "TCP6" if six else "TCP4"
        return f"PROXY {kind} {' '.join(texts)} {source.port} {destination.port}\r\n".encode("ascii")
    addresses = b"".join(ends) + struct.pack("!HH", source.port, destination.port)
    return _FIXED.pack(SIGNATURE, _PROXY, _TCP6 if six else _TCP4, len(addresses)) + addresses


_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 as IPv6 (RFC 4291, section 2.5.5.2)


def _packed(ip: str) -> bytes:
    bare = ip.partition("%")[0]  # a zone means nothing elsewhere
    return socket.inet_pton(socket.AF_INET6 if ":" in bare else socket.AF_INET, bare)


def _text(packed: bytes) -> str:
    if packed.startswith(_MAPPED) and len(packed) == 16:
        packed = packed[12:]
    return socket.inet_ntop(socket.AF_INET if len(packed) == 4 else socket.AF_INET6, packed)


def crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli; RFC 9260, appendix A), bit by bit: headers are short, and few have one."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


def _wrong(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(Close.FRAME, f"PROXY protocol: {why}")
