"""The worker's state as lines of its log, when SIGUSR1 asks for it. Reads everything, changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aero import logs
from aero.host.facts import facts

if TYPE_CHECKING:
    from aero.worker.app import WorkerApp

log = logs.get("state")


def dump(app: WorkerApp) -> None:
    """One line for the process, one for each lane, one for each target."""
    log.info(
        "worker",
        cid=app.cid,
        server=app.config.server,
        links=sum(lane.link is not None for lane in app.lanes),
        sessions=sum(lane.session is not None for lane in app.lanes),
        streams=sum(len(lane.session.streams) for lane in app.lanes if lane.session is not None),
        blocks=app.pool.taken,
        **facts(),
    )
    for lane in app.lanes:
        session = lane.session
        log.info(
            "lane",
            lane=lane.number,
            link="up" if lane.link is not None else "down",
            session=lane.session_id if session is not None else "",
            streams=len(session.streams) if session is not None else 0,
            kept_kib=session.outbox.kept_bytes >> 10 if session is not None else 0,
        )
    for service in app.services:
        log.info("target", target=service.target, port=service.port, streams=len(service.streams))
