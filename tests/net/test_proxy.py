"""Proxies: what we say to them to the byte, and one clear line for each way in which they say no."""

from __future__ import annotations

import socket
from base64 import b64encode
from collections.abc import Iterator

import gevent
import pytest

from aero.address import Address
from aero.errors import DialError
from aero.net.proxy import MAX_HEAD_BYTES, Connect, Machine, Socks, pass_through
from aero.net.transport import TcpTransport
from aero.proxies import Proxy

SERVER = Address("aero.example.org", 443)
PLAIN = Proxy.parse("http://proxy.corp:3128")
LOGIN = Proxy.parse("http://eva:geheim@proxy.corp:3128")
SOCKS = Proxy.parse("socks5h://proxy.corp:1080")
SOCKS_LOGIN = Proxy.parse("socks5h://eva:geheim@proxy.corp:1080")
YES = b"HTTP/1.1 200 Connection established\r\n\r\n"


def machine(proxy: Proxy, server: Address = SERVER) -> Machine:
    return Connect(proxy, server) if proxy.scheme == "http" else Socks(proxy, server)


def talk(proxy: Proxy, *said: bytes, server: Address = SERVER) -> list[bytes]:
    """What we say to a proxy that says this, whole and byte by byte alike."""
    whole, slow = machine(proxy, server), machine(proxy, server)
    ours = [whole.start()]
    assert slow.start() == ours[0]
    for words in said:
        ours.append(whole.receive(words))
        assert b"".join(slow.receive(words[at : at + 1]) for at in range(len(words))) == ours[-1]
    assert whole.done and slow.done
    return ours


def refusal(proxy: Proxy, *said: bytes, server: Address = SERVER) -> str:
    """The line that a proxy's words give."""
    asking = machine(proxy, server)
    asking.start()
    with pytest.raises(DialError) as raised:
        for words in said:
            asking.receive(words)
    text = str(raised.value)
    assert not asking.done and text.isprintable() and len(text) < 250
    assert text.startswith(f"the proxy {proxy} ") and "geheim" not in text
    return text.removeprefix(f"the proxy {proxy} ")


# HTTP


def test_connect_to_the_byte() -> None:
    assert talk(PLAIN, YES) == [
        b"CONNECT aero.example.org:443 HTTP/1.1\r\nHost: aero.example.org:443\r\n\r\n",
        b"",
    ]
    assert talk(LOGIN, b"HTTP/1.0 200\n\n", server=Address("::1", 1))[0] == (
        b"CONNECT [::1]:1 HTTP/1.1\r\nHost: [::1]:1\r\n"
        b"Proxy-Authorization: Basic " + b64encode(b"eva:geheim") + b"\r\n\r\n"
    )


def test_interim_answers_and_fields_beside_a_yes_are_passed_over() -> None:
    talk(PLAIN, b"HTTP/1.1 100 Continue\r\n\r\n" + YES)
    talk(PLAIN, b"HTTP/1.1 204 x\r\nVia: 1.1 squid\r\nContent-Length: 0\r\nContent-Type: text/html\r\n\r\n")


def head(status: str, *fields: str) -> bytes:
    return "".join(f"{line}\r\n" for line in (f"HTTP/1.1 {status}", *fields, "")).encode()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (head("407 Proxy Authentication Required", 'Proxy-Authenticate: Basic realm="x"'),
         "wants a password (407 Basic): write --proxy http://USER:PASSWORD@proxy.corp:3128"),
        (head("407 x", "Proxy-Authenticate: Negotiate", "Proxy-Authenticate: NTLM"),
         "wants a kind of login that is not offered here, only Basic is (407 Negotiate, NTLM)"),
        (head("407 x", "proxy-authenticate: Negotiate", "PROXY-AUTHENTICATE: basic"),
         "wants a password (407 Negotiate, basic): write --proxy http://USER:PASSWORD@proxy.corp:3128"),
        (head("403 Forbidden"), "does not allow connections to aero.example.org:443 (403 Forbidden)"),
        (head("405 Method Not Allowed"), "does not offer CONNECT, or not to this port (405 Method Not Allowed)"),
        (head("502 Bad Gateway"), "could not connect to aero.example.org:443 (502 Bad Gateway)"),
        (head("503"), "could not connect to aero.example.org:443 (503)"),
        (head("511 Network Authentication Required"),
         "wants a login in a browser first (511 Network Authentication Required)"),
        (head("302 Found", "Location: http://login.hotel/x?token=geheim"),
         "wants a login in a browser first (302 Found, at http://login.hotel/x)"),
        (head("200 OK", "Content-Type: text/html; charset=utf-8"),
         "sends a page in place of a connection: does this network want a login in a browser?"),
        (YES + b"<html>", "sends a page in place of a connection: does this network want a login in a browser?"),
        (head("418 I'm a teapot"), "says no (418 I'm a teapot)"),
        (b"\5\xff", "does not speak HTTP; is it a SOCKS proxy? then write socks5h://"),
        (b"SSH-2.0-x\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 yes\r\n\r\n", "does not speak HTTP"),
        (b"HTTP/1.1 101 Switching\r\n\r\n", "says no (101 Switching)"),
        (b"HTTP/1.1 500 \x1b[2J\xff\0" + b"x" * 500 + b"\r\n\r\n", "could not connect to aero"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD_BYTES, "answers without an end"),
    ],
)  # fmt: skip
def test_every_no_of_an_http_proxy_has_its_line(answer: bytes, text: str) -> None:
    assert text in refusal(PLAIN, answer)


def test_a_password_that_is_not_taken_is_another_line_than_one_that_is_missing() -> None:
    answer = head("407 x", "Proxy-Authenticate: Basic")
    assert refusal(LOGIN, answer) == "does not take this user and password (407 Basic)"
    assert (
        refusal(LOGIN, head("401 Unauthorized")) == "does not take this user and password (401 Unauthorized)"
    )
    assert refusal(PLAIN, head("401 Unauthorized")) == "says no (401 Unauthorized)"


# SOCKS


def test_socks_by_name_without_a_password_to_the_byte() -> None:
    said = talk(SOCKS, b"\5\0", b"\5\0\0\1" + bytes(6))
    assert said == [b"\5\1\0", b"\5\1\0\3\x10aero.example.org\x01\xbb", b""]


def test_socks_with_a_password_to_the_byte() -> None:
    said = talk(SOCKS_LOGIN, b"\5\2", b"\1\0", b"\5\0\0\3\4host\0\1", server=Address("::1", 80))
    assert said == [b"\5\2\0\2", b"\1\3eva\6geheim", b"\5\1\0\4" + bytes(15) + b"\1\0P", b""]
    assert talk(SOCKS_LOGIN, b"\5\0", b"\5\0\0\4" + bytes(18), server=Address("10.0.0.1", 80))[1] == (
        b"\5\1\0\1\x0a\0\0\1\0P"
    )


@pytest.mark.parametrize(
    ("proxy", "said", "text"),
    [
        (SOCKS, b"\5\xff", "wants a password: write --proxy socks5h://USER:PASSWORD@proxy.corp:1080"),
        (SOCKS, b"\5\2", "wants a kind of login that is not offered here, only a password is"),
        (SOCKS_LOGIN, b"\5\xff", "wants a kind of login that is not offered here, only a password is"),
        (SOCKS_LOGIN, b"\5\2\1\1", "does not take this user and password"),
        (SOCKS, b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak SOCKS5; it speaks HTTP: write http://"),
        (SOCKS, b"\4", "does not speak SOCKS5"),
        (SOCKS, b"\5\0\5\1", "could not connect to aero.example.org:443 (general failure)"),
        (SOCKS, b"\5\0\5\2", "does not allow connections to aero.example.org:443"),
        (SOCKS, b"\5\0\5\4", "cannot reach aero.example.org:443"),
        (SOCKS, b"\5\0\5\5", "was refused by aero.example.org:443: nothing listens there"),
        (SOCKS, b"\5\0\5\x08", "does not know this kind of address"),
        (SOCKS, b"\5\0\5\x63", "says no (99)"),
        (SOCKS, b"\5\0\5\0\0\7\0", "does not speak SOCKS5"),
        (SOCKS, b"\5\0\4\0", "does not speak SOCKS5"),
        (SOCKS, b"\5\0\5\0\0\1" + bytes(6) + b"<html>", "sends what nobody asked for behind its yes"),
    ],
)
def test_every_no_of_a_socks_proxy_has_its_line(proxy: Proxy, said: bytes, text: str) -> None:
    assert text in refusal(proxy, said)


# Over a connection


@pytest.fixture
def pair() -> Iterator[tuple[TcpTransport, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = TcpTransport(socket.create_connection(listener.getsockname()))
        theirs = listener.accept()[0]
    theirs.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_proxy_that_says_yes_leaves_the_connection_as_it_is(
    pair: tuple[TcpTransport, socket.socket],
) -> None:
    ours, theirs = pair
    passing = gevent.spawn(pass_through, ours, PLAIN, SERVER)
    gevent.idle()
    assert theirs.recv(1000).startswith(b"CONNECT ")
    for at in range(len(YES)):
        theirs.send(YES[at : at + 1])
        gevent.idle()
    passing.get(timeout=10)
    theirs.send(b"x")
    with gevent.Timeout(10):
        gevent.sleep(0.001)
        assert ours.receive_into(memoryview(bytearray(10))) == 1


@pytest.mark.parametrize("proxy", [PLAIN, SOCKS])
def test_a_proxy_that_closes(pair: tuple[TcpTransport, socket.socket], proxy: Proxy) -> None:
    ours, theirs = pair
    passing = gevent.spawn(pass_through, ours, proxy, SERVER)
    gevent.idle()
    assert theirs.recv(1000)
    theirs.close()
    with pytest.raises(DialError, match=r"^the proxy .* hung up in place of an answer$"):
        passing.get(timeout=10)


def test_a_proxy_that_breaks_off(pair: tuple[TcpTransport, socket.socket]) -> None:
    ours, theirs = pair
    passing = gevent.spawn(pass_through, ours, PLAIN, SERVER)
    gevent.idle()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    theirs.close()
    with pytest.raises(DialError, match="broke the connection"):
        passing.get(timeout=10)


def test_a_silent_proxy_can_be_given_up(pair: tuple[TcpTransport, socket.socket]) -> None:
    ours, _ = pair
    passing = gevent.spawn(pass_through, ours, SOCKS, SERVER)
    gevent.idle()
    passing.kill(timeout=10)
    assert passing.dead
