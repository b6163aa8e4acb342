"""POST /targets, POST /targets/remove and GET /targets: targets that are added to workers which run."""

from __future__ import annotations

from collections.abc import Mapping as Table
from functools import partial
from time import monotonic, time
from typing import Any

import gevent
from gevent.event import AsyncResult

from aero import logs
from aero.address import TCP, UDP, Address, check_name, port_number, socket_path
from aero.core.control import DENIED, Added, Answer
from aero.errors import ConfigError, PortError, Problem
from aero.limits import Limits
from aero.server.api.times import rfc3339
from aero.server.registry.additions import Addition, Additions
from aero.server.registry.registry import Registry
from aero.server.registry.worker import Worker

log = logs.get("api")

ADD = ("to", "name", "local", "proto", "remote", "for")
LONGEST_S = 30 * 24 * 3600


def added(registry: Registry, given: Table[str, str], address: str) -> dict[str, Any]:
    """Asks the workers that are here for a target, and waits for what they say. Raises Problem."""
    addition = _addition(given)
    where, name, proto = addition.key
    workers = list(registry.named(where))
    if not workers and not addition.kept:
        raise Problem(404, f"there is no worker {logs.clean(where, 80)} now")
    before = registry.additions.get(where, name, proto)
    if before is not None and before.target != addition.target:
        raise Problem(409, f"{where}/{name} was added already, at {before.target.local}: remove that first")
    if any((name, proto) in worker.awaited for worker in workers):
        raise Problem(409, f"{where}/{name} is being added")
    answers = {worker: _awaited(worker, name, proto, before is None) for worker in workers}
    try:
        registry.additions.add(addition)
    except PortError as error:
        raise Problem(409, str(error)) from None
    gevent.wait(list(answers.values()), timeout=Limits.API_TARGET_S)
    results = [_result(worker, answer, name, proto) for worker, answer in answers.items()]
    if results and not any(each["port"] for each in results):
        if before is None:
            registry.additions.remove(addition)
        raise Problem(409, f"no worker takes it: {results[0]['why']}")
    log.info("target added", to=where, target=f"{name}@{addition.target.local}", by=address)
    return {**_shown(addition), "workers": results}


def removed(additions: Additions, given: Table[str, str], address: str) -> dict[str, Any]:
    """A target that was added goes. Raises Problem."""
    where, slash, name = given.get("target", "").lower().partition("/")
    proto = given.get("proto", TCP)
    found = additions.get(where, name, proto) if slash else None
    if found is None:
        called = logs.clean(given.get("target", ""), 140)
        raise Problem(
            404, f"no {proto.upper()} target {called} was added" if called else "say which: target=TAG/NAME"
        )
    additions.remove(found)
    log.info("target removed", to=where, target=name, by=address)
    return _shown(found)


def listed(additions: Additions) -> dict[str, Any]:
    """Everything that was added."""
    return {"targets": [_shown(each) for each in additions]}


def _shown(addition: Addition) -> dict[str, Any]:
    target = addition.target
    left_s = addition.until - monotonic()
    return {
        "to": addition.where,
        "name": target.name,
        "local": target.local,
        "proto": target.proto,
        "remote": target.remote,
        "until": rfc3339(round(time() + left_s)) if addition.until else None,
    }


def _addition(given: Table[str, str]) -> Addition:
    where, seconds, proto = given.get("to", "").lower(), given.get("for", "0"), given.get("proto", TCP)
    try:
        if not where:
            raise ConfigError("say to whom: to=TAG, or to=CID@ for one worker")
        where = check_name(where.rstrip("@")) + ("@" if where.endswith("@") else "")
        if not seconds.isascii() or not seconds.isdecimal() or len(seconds) > 8 or int(seconds) > LONGEST_S:
            raise ConfigError(f"for is a number of seconds, at most {LONGEST_S}; 0, or none: for good")
        if proto not in (TCP, UDP):
            raise ConfigError("proto is tcp or udp")
        remote = given.get("remote", "0")
        local = given.get("local", "")
        local = str(socket_path(local) or Address.parse(local))
        if not local.isascii():
            raise ConfigError("local is in ASCII, names in other scripts as xn--...")
        target = Added(check_name(given.get("name", "")), local, proto, port_number(remote, 0))
    except ConfigError as error:
        raise Problem(400, str(error)) from None
    return Addition(where, target, monotonic() + int(seconds) if int(seconds) else 0.0)


def _awaited(worker: Worker, name: str, proto: str, new: bool) -> AsyncResult[Answer]:
    """What will become of a target that a worker is asked for; ``new``: it was not asked for before."""
    answer: AsyncResult[Answer] = AsyncResult()
    mapping = worker.mapping(name, proto)
    if mapping is not None:
        own = Answer(0, name, error=DENIED, text=f"this worker has a target {name} of its own")
        answer.set(own if new else Answer(mapping.target_id, name, mapping.port))
    else:
        worker.awaited[name, proto] = answer.set
        answer.rawlink(partial(_forget, worker, (name, proto)))
    return answer


def _forget(worker: Worker, key: tuple[str, str], _: AsyncResult[Answer]) -> None:
    worker.awaited.pop(key, None)


def _result(worker: Worker, answer: AsyncResult[Answer], name: str, proto: str) -> dict[str, Any]:
    worker.awaited.pop((name, proto), None)
    found = answer.get(block=False) if answer.ready() else None
    why = "" if found is not None else f"it did not answer within {Limits.API_TARGET_S:.0f} s"
    return {
        "cid": worker.cid,
        "port": found.port if found is not None else 0,
        "why": logs.clean(found.text) if found is not None and not found.port else why,
    }
