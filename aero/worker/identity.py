"""Who this worker is, again and again: an identity that outlives the process, from what the host can keep.

It is a hash over a seed (random and kept with the state, or the machine's id where nothing can be kept), the tag, the
host and a place. Nothing in it changes while people edit a configuration. Places tell workers of one tag on one host
apart: each running worker holds the lock of one, and a place is free again in the moment in which its process ends,
however it ended. The lock's file remembers the targets, so that of several places that are free each worker finds its
own.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from aero import logs
from aero.config.roles import ClientConfig
from aero.core.digest import sha256
from aero.errors import Busy, HostError
from aero.host import lock

log = logs.get("worker")

FILE = "identity"
#: Workers with one tag on one host; those beyond have an identity for this once.
PLACES = 64
_SEED_BYTES = 16
_MACHINE_ID = "/etc/machine-id"
_NOTE_BYTES = 16 * 1024  # the names of all targets that a worker may have


class Identity:
    """What a running worker is called by, for as long as its process has it."""

    def __init__(self, text: str, held: lock.Held | None) -> None:
        """``held``: the lock of its place, None where no folder of this host can hold one."""
        self.text = text  # 32 hexadecimal digits
        self._held = held

    def remember(self, names: Iterable[str]) -> None:
        """Notes the targets' names with the place."""
        if self._held is not None:
            self._held.note("".join(f"{name}\n" for name in sorted(names)))

    def release(self) -> None:
        """Lets another worker have the place."""
        held, self._held = self._held, None
        if held is not None:
            held.release()


def once() -> Identity:
    """An identity that no other worker ever has, and nobody keeps."""
    return Identity(os.urandom(_SEED_BYTES).hex(), None)


def take(config: ClientConfig) -> Identity:
    """The identity of a worker that starts now."""
    seed = _kept_seed(config.state) or _machine_seed()
    names = {target.name for target in config.targets}
    place, held = _take_place(config, names)
    if place < 0:
        return once()
    text = "\0".join((config.tag, config.host, str(place)))
    identity = Identity(_digest(seed + b"\0" + text.encode("utf-8", "surrogatepass")), held)
    identity.remember(names)
    return identity


def _take_place(config: ClientConfig, names: set[str]) -> tuple[int, lock.Held | None]:
    """The free place whose last worker had the most of our targets, the first one of several; -1 where none is free."""
    name = f"worker-{config.tag}-{_digest(config.host.encode('utf-8', 'surrogatepass'))[:12]}"
    best: tuple[int, int, lock.Held] | None = None  # targets in common, place, its lock
    for place in range(PLACES):
        try:
            held = lock.take("", f"{name}-{place}", config.state)
        except Busy:
            continue
        except HostError as error:
            log.debug(
                "! no folder can hold a lock: other workers with this tag look like this one", why=error
            )
            return 0, None
        note = held.noted(_NOTE_BYTES)
        common = len(names.intersection(note.split("\n")))
        if best is None or common > best[0]:
            if best is not None:
                best[2].release()
            best = (common, place, held)
        else:
            held.release()
        if not note or common == len(names):
            break  # places are used one after another, so nobody ever had the next ones
    return (best[1], best[2]) if best is not None else (-1, None)


def _digest(data: bytes) -> str:
    return sha256(data).hexdigest()[:32]


def _kept_seed(state: str) -> bytes:
    """The seed in the state folder, made where there is none; b"" where none can be kept."""
    path = os.path.join(state, FILE)
    try:
        return (_read(path) or _make(path)) if state else b""
    except OSError as error:
        log.warning("cannot keep an identity, using the machine's", path=path, error=error.strerror)
        return b""


def _read(path: str) -> bytes:
    """What is there, b"" where that is no seed. Raises OSError."""
    try:
        with open(path, "rb") as file:
            seed = file.read(64)
    except FileNotFoundError:
        return b""
    return seed if len(seed) >= _SEED_BYTES else b""


def _make(path: str) -> bytes:
    """A new seed, which appears whole or not at all. Of several first starts at once all have the same one.

    Raises OSError.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    seed = os.urandom(_SEED_BYTES).hex().encode()
    fresh = f"{path}.{os.getpid()}"
    with open(fresh, "wb", opener=_private) as new:
        new.write(seed)
    try:
        os.link(fresh, path)
    except OSError:  # another one came first, what is there is of no use, or nothing can be linked here
        theirs = _read(path)
        if not theirs:
            os.replace(fresh, path)
            return seed
        seed = theirs
    os.unlink(fresh)
    return seed


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _machine_seed() -> bytes:
    try:
        with open(_MACHINE_ID, "rb") as file:
            return file.read(64)
    except OSError:
        return os.uname().nodename.encode("utf-8", "surrogateescape")
