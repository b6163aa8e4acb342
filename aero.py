#!/usr/bin/env python3
"""Runs AeRO-proxy from a checkout; also as aeros (server) and aeroc (client) when linked by those names."""

from aero.__main__ import main

if __name__ == "__main__":
    raise SystemExit(main())
