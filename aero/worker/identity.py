"""Who this worker is, again and again: an identity that outlives the process, from what the host can keep."""

from __future__ import annotations

import hashlib
import os

from aero import logs
from aero.config.roles import ClientConfig

log = logs.get("worker")

FILE = "identity"
_SEED_BYTES = 16
_MACHINE_ID = "/etc/machine-id"


def identity(config: ClientConfig) -> str:
    """32 hexadecimal digits: the same for the same worker on the same host, also after a restart.

    A random seed kept with the state, or the machine's own id where nothing can be kept; with tag, host and
    targets, so that two workers on one host are two.
    """
    seed = _kept_seed(config.state) or _machine_seed()
    names = "\0".join((config.tag, config.host, *sorted(target.name for target in config.targets)))
    return hashlib.sha256(seed + b"\0" + names.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _kept_seed(state: str) -> bytes:
    if not state:
        return b""
    path = os.path.join(state, FILE)
    try:
        with open(path, "rb") as file:
            seed = file.read(64)
        if len(seed) >= _SEED_BYTES:
            return seed
    except FileNotFoundError:
        pass  # the first start
    except OSError as error:
        log.warning("cannot read the kept identity, using the machine's", path=path, error=error.strerror)
        return b""
    try:
        os.makedirs(state, mode=0o700, exist_ok=True)
        seed = os.urandom(_SEED_BYTES).hex().encode()
        fresh = f"{path}.{os.getpid()}"  # appears whole or not at all
        with open(fresh, "wb", opener=_private) as new:
            new.write(seed)
        os.replace(fresh, path)
    except OSError as error:
        log.warning("cannot keep an identity, using the machine's", path=path, error=error.strerror)
        return b""
    return seed


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _machine_seed() -> bytes:
    try:
        with open(_MACHINE_ID, "rb") as file:
            return file.read(64)
    except OSError:
        return os.uname().nodename.encode("utf-8", "surrogateescape")
