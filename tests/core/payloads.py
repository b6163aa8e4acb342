"""Payloads in JSON, as a peer might send them."""

from __future__ import annotations

import json
from typing import Any


def payload(data: dict[str, Any]) -> memoryview:
    """What a frame holds that says ``data``."""
    return memoryview(json.dumps(data).encode())


def changed(message: Any, **fields: Any) -> memoryview:
    """The message with other fields; ``...`` leaves one out."""
    data = {**json.loads(message.pack()), **fields}
    return payload({key: value for key, value in data.items() if value is not ...})
