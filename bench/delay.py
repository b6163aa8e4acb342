#!/usr/bin/env python3
"""A router in user space: `delay.py NEAR FAR MS LOSS` makes two tun devices, and what one sends arrives at the other
MS milliseconds later, in order, unless it is among the LOSS (0 to 1) that are dropped. Says "ready" once both exist.
"""

from __future__ import annotations

import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from collections.abc import Sequence

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000  # linux/if_tun.h
PACKET_BYTES = 65_536
# 64 MiB of packets on their way each way: 1 Gbit/s for half a second.
QUEUE_BYTES = 64 * 1024 * 1024
BATCH = 64  # packets of one direction before the other has its turn


def tun(name: str) -> int:
    """A new tun device; its file, non-blocking."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH14x", name.encode(), IFF_TUN | IFF_NO_PI))
    return device


class Way:
    """One direction."""

    def __init__(self, source: int, sink: int, delay_s: float, loss: float) -> None:
        self.source, self.sink = source, sink
        self._delay_s, self._loss = delay_s, loss
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def take_in(self) -> None:
        for _ in range(BATCH):
            try:
                packet = os.read(self.source, PACKET_BYTES)
            except BlockingIOError:
                return
            if self._bytes < QUEUE_BYTES and (not self._loss or random.random() >= self._loss):
                self._bytes += len(packet)
                self._waiting.append((time.monotonic() + self._delay_s, packet))

    def let_out(self) -> float:
        """Sends what is due; the seconds until something is due again, infinite when nothing waits."""
        waiting = self._waiting
        while waiting:
            left_s = waiting[0][0] - time.monotonic()
            if left_s > 0:
                return left_s
            packet = waiting.popleft()[1]
            self._bytes -= len(packet)
            try:
                os.write(self.sink, packet)
            except OSError:
                pass  # its device is down or full: a packet that was lost
        return float("inf")


def main(arguments: Sequence[str]) -> None:
    """Run until killed."""
    near, far = tun(arguments[0]), tun(arguments[1])
    delay_s, loss = float(arguments[2]) / 1000, float(arguments[3])
    ways = {near: Way(near, far, delay_s, loss), far: Way(far, near, delay_s, loss)}
    print("ready", flush=True)
    poller = select.epoll()
    for device in ways:
        poller.register(device, select.EPOLLIN)
    while True:
        wait_s = min(way.let_out() for way in ways.values())
        for device, _ in poller.poll(-1 if wait_s == float("inf") else wait_s):
            ways[device].take_in()


if __name__ == "__main__":
    main(sys.argv[1:])
