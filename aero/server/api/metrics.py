"""The server's numbers as Prometheus reads them (text format 0.0.4). Counts nothing but the loop's lag."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any, NamedTuple, Protocol

from aero import __version__
from aero.address import TCP
from aero.core.aead.backend import Backend
from aero.host.facts import address_space, descriptors
from aero.server.registry.registry import Registry
from aero.server.watch.counters import Birth, Counters, Histogram, TargetName

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
LAG_STEP_S = 0.5
#: Below 1 ms nobody feels it, above 250 ms streams stutter.
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class MetricsGround(Protocol):
    """What the metrics need of the server."""

    @property
    def registry(self) -> Registry:
        """Who is here."""

    @property
    def counters(self) -> Counters:
        """What the server counts."""

    @property
    def backend(self) -> Backend:
        """What seals and opens records."""

    @property
    def birth(self) -> Birth:
        """When the server began."""


class Sample(NamedTuple):
    """One line: what follows the metric's name, labels, value."""

    ending: str
    labels: dict[str, str]
    value: float


class Metric(NamedTuple):
    """One metric: name, type, what it is, its lines."""

    name: str
    kind: str
    text: str
    samples: Iterable[Sample]


class Lag:
    """By how much timers are late: the event loop was busy with something else."""

    def __init__(self, loop: Any) -> None:
        """Begins to measure."""
        self.histogram = Histogram(LAG_BOUNDS_S)
        self._loop = loop
        self._due = 0.0
        self._timer: Any = None
        self._arm()

    def _arm(self) -> None:
        self._due = monotonic() + LAG_STEP_S
        self._loop.update_now()  # else the timer counts from when the loop last looked at the clock
        self._timer = self._loop.timer(LAG_STEP_S)
        self._timer.start(self._late)

    def _late(self) -> None:
        self.histogram.observe(max(monotonic() - self._due, 0.0))
        self._timer.close()
        self._arm()

    def close(self) -> None:
        """Ends the measuring."""
        self._timer.stop()
        self._timer.close()


def lines(ground: MetricsGround, lag: Lag) -> Iterator[str]:
    """All metrics. Time may pass, and things may come and go, between one line and the next."""
    for metric in _metrics(ground, lag):
        yield f"# HELP {metric.name} {metric.text}\n# TYPE {metric.name} {metric.kind}\n"
        for sample in metric.samples:
            yield _line(metric.name, sample)


def _metrics(ground: MetricsGround, lag: Lag) -> Iterator[Metric]:
    registry, counters = ground.registry, ground.counters
    workers = registry.workers.values()
    python = ".".join(map(str, sys.version_info[:3]))
    build = {"version": __version__, "python": python, "aead": ground.backend.name}
    yield Metric("aero_build_info", "gauge", "What runs; always 1.", [Sample("", build, 1)])
    yield _gauge("aero_workers", "Workers that are here.", len(workers))
    yield _gauge("aero_links", "Links that are up.", sum(worker.links for worker in workers))
    yield _gauge(
        "aero_mappings", "Targets that can be reached.", sum(len(worker.mappings) for worker in workers)
    )
    yield _gauge("aero_streams", "Open streams.", registry.streams)
    yield _gauge("aero_flows", "Visitors of UDP targets that are there.", registry.flows)
    totals = [(_labels(name), total) for name, total in counters.totals.items()]
    moved = (
        Sample("", {**labels, "direction": direction}, count)
        for labels, total in totals
        for sums in (total.sums,)
        for direction, count in (("in", sums.bytes_in), ("out", sums.bytes_out))
    )
    what = "Bytes by target; in: from visitors to the target, out: back."
    yield Metric("aero_target_bytes_total", "counter", what, moved)
    begun = (Sample("", labels, total.visitors) for labels, total in totals)
    what = "Streams, of UDP targets flows, that began, by target."
    yield Metric("aero_target_streams_total", "counter", what, begun)
    refused = (
        Sample("", {**labels, "reason": _word(reason)}, count)
        for labels, total in totals
        for reason, count in list(total.refused.items())
    )
    what = "Visitors and requests that were turned away, by target and reason."
    yield Metric("aero_target_refused_total", "counter", what, refused)
    dropped = [Sample("", {"reason": _word(why)}, count) for why, count in counters.drops.counts.items()]
    yield Metric("aero_datagrams_dropped_total", "counter", "Datagrams dropped here, by reason.", dropped)
    looked_at = (
        Sample("", {"tag": worker.tag, "target": each.name, "cid": worker.cid}, int(each.in_order))
        for worker in list(workers)
        for each in list(worker.mappings.values())
        if each.health is not None
    )
    yield Metric("aero_target_healthy", "gauge", "Whether a target with check= works.", looked_at)
    handshakes = [
        Sample("", {"result": _word(result)}, count) for result, count in counters.handshakes.items()
    ]
    openings = [Sample("", {"kind": _word(kind)}, count) for kind, count in counters.openings.items()]
    yield Metric(
        "aero_openings_total", "counter", "Connections to the server's port, by first bytes.", openings
    )
    yield Metric("aero_handshakes_total", "counter", "Handshakes of workers, by result.", handshakes)
    errors = [Sample("", {"kind": _word(kind)}, count) for kind, count in sorted(counters.errors.items())]
    yield Metric("aero_errors_total", "counter", "Errors, by kind.", errors)
    yield _histogram("aero_ping_seconds", "Round trips between server and workers.", counters.pings)
    yield _histogram("aero_loop_lag_seconds", "How late the event loop's timers were.", lag.histogram)
    yield from _process(ground.birth.at)


def _process(began_at: float) -> Iterator[Metric]:
    times = os.times()
    yield _gauge("process_cpu_seconds_total", "Processor time.", times.user + times.system, "counter")
    yield _gauge("process_start_time_seconds", "Start of the server, Unix time.", began_at)
    size, resident = address_space()
    if size >= 0:
        yield _gauge("process_resident_memory_bytes", "Memory in RAM.", resident)
        yield _gauge("process_virtual_memory_bytes", "Address space in use.", size)
    open_now = descriptors()
    if open_now >= 0:
        yield _gauge("process_open_fds", "Open file descriptors.", open_now)


def _labels(name: TargetName) -> dict[str, str]:
    """A target's labels; those of no user and of TCP say neither."""
    labels = {"tag": name.tag, "target": name.target}
    if name.user:
        labels["user"] = name.user
    if name.proto != TCP:
        labels["proto"] = name.proto
    return labels


def _gauge(name: str, what: str, value: float, kind: str = "gauge") -> Metric:
    return Metric(name, kind, what, [Sample("", {}, value)])


def _histogram(name: str, what: str, histogram: Histogram) -> Metric:
    samples = []
    count = 0
    for bound, more in zip([*map(_number, histogram.bounds), "+Inf"], histogram.counts):
        count += more
        samples.append(Sample("_bucket", {"le": bound}, count))
    samples += [Sample("_sum", {}, histogram.total), Sample("_count", {}, count)]
    return Metric(name, "histogram", what, samples)


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
    return f"{name}{sample.ending}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _word(text: str) -> str:
    """The program's words as a label: ``rule broken: frame`` is ``rule_broken_frame``."""
    return text.replace(": ", "_").replace(" ", "_")
