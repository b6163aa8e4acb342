"""The worker's state as lines of its log, when SIGUSR1 asks for it. Reads everything, changes nothing."""

from __future__ import annotations

import gevent

from aero import logs
from aero.host.facts import facts
from aero.worker.crew import Crew
from aero.worker.ground import Ground
from aero.worker.states import STATE_NAMES
from aero.worker.targets import Services

log = logs.get("state")

_PAUSE_S = 0.001  # before each line: streams come first


def dump(ground: Ground, crew: Crew, services: Services) -> None:
    """One line for the process, one for each lane, one for each target."""
    sessions = crew.sessions()
    packer = ground.memory.packer
    log.info(
        "worker",
        cid=crew.cid,
        server=ground.config.server,
        links=sum(lane.link is not None for lane in crew.lanes),
        sessions=len(sessions),
        streams=sum(len(session.core.streams) for session in sessions),
        kept_kib=ground.memory.blocks.taken_bytes >> 10,
        **({"zstd": packer.summary} if packer is not None and packer.summary else {}),
        **facts(),
    )
    for lane in crew.lanes:
        session = lane.session
        log.info(
            "lane",
            lane=lane.number,
            state=STATE_NAMES[lane.state],
            link="up" if lane.link is not None else "down",
            server=lane.way,
            session=session.id if session is not None else "",
            streams=len(session.core.streams) if session is not None else 0,
            kept_kib=session.core.outbox.kept_bytes >> 10 if session is not None else 0,
            path=lane.link.figures if lane.link is not None else "",
        )
    for service in list(services):
        gevent.sleep(_PAUSE_S)
        log.info("target", target=service.target, port=service.port, streams=len(service.streams))
        if service.conversations is not None:
            drops = {
                key.replace(" ", "_"): count
                for key, count in service.conversations.drops.counts.items()
                if count
            }
            log.info("flows", target=service.target, flows=len(service.conversations), **drops)
