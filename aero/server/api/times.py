"""Times as the API writes them."""

from __future__ import annotations

from datetime import datetime, timezone


def rfc3339(at: float) -> str:
    """Unix time in seconds as ``2026-11-22T14:15:00.123456Z``."""
    return datetime.fromtimestamp(at, timezone.utc).isoformat(timespec="microseconds").replace("+00:00", "Z")
