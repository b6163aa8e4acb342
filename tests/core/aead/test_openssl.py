"""OpenSSL by ctypes: what it refuses becomes an error of ours, and what it was given is given back."""

from __future__ import annotations

import pytest

from aero.core.aead.openssl import OpenSsl
from aero.errors import HostError, SecurityError

KEY, NONCE = bytes(16), bytes(12)


@pytest.fixture
def openssl() -> OpenSsl:
    try:
        return OpenSsl()
    except HostError as error:
        pytest.skip(str(error))


def test_it_says_which_version_it_found(openssl: OpenSsl) -> None:
    name, version, *rest = openssl.description.split(" ")
    assert (name, version, rest[1:]) == ("openssl", "(OpenSSL", ["by", "ctypes)"]) and rest[0][0].isdigit()


@pytest.mark.parametrize("context", [None, 4711])
def test_a_key_that_it_refuses_is_given_back(openssl: OpenSsl, context: int | None) -> None:
    freed: list[object] = []
    openssl.new, openssl.init, openssl.free = lambda: context, lambda *_: 0, freed.append
    with pytest.raises(HostError, match="OpenSSL refuses AES-128-GCM"):
        openssl.sealer(KEY)
    assert freed == [context]


def test_every_key_is_given_back_once(openssl: OpenSsl) -> None:
    free, freed = openssl.free, list[object]()

    def noted(context: object) -> None:
        freed.append(context)
        free(context)

    openssl.free = noted
    keys = [openssl.sealer(KEY), openssl.opener(KEY)]
    assert not freed
    keys.clear()
    assert len(freed) == len(set(freed)) == 2


@pytest.mark.parametrize("step", ["update", "final", "control"])
def test_a_step_that_fails_is_never_taken_for_a_record(openssl: OpenSsl, step: str) -> None:
    sealed = memoryview(bytearray(5 + 16))
    assert openssl.sealer(KEY).seal(NONCE, b"aad", memoryview(b"hello"), sealed) == 21
    setattr(openssl, step, lambda *_: 0)
    with pytest.raises(SecurityError, match="could not seal"):
        openssl.sealer(KEY).seal(NONCE, b"aad", memoryview(b"hello"), memoryview(bytearray(21)))
    with pytest.raises(SecurityError):
        openssl.opener(KEY).open(NONCE, b"aad", sealed, memoryview(bytearray(5)))
