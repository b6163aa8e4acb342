"""The shapes of what the API answers, in JSON Schema; openapi.py says which call has which."""

from __future__ import annotations

from typing import Any

from aero.server.store.usage import NUMBERS

Schema = dict[str, Any]

NAME = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, microseconds"}
CID: Schema = {"type": "string", "description": "A worker's id"}
RATES: Schema = {"type": "array", "items": COUNT, "description": "Bytes a second, oldest sample first"}
BOTH = {"in": RATES, "out": RATES}


def record(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    """An object with these properties and no others."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def ref(name: str) -> Schema:
    """The shape of this name."""
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Schema] = {
    "Error": record({"error": {**TEXT, "description": "What is wrong, for people"}, "status": COUNT}),
    "Health": record(
        {
            "status": {"const": "ok"},
            "version": TEXT,
            "uptime_s": SECONDS,
            "workers": COUNT,
            "streams": COUNT,
        },
        optional=("version", "uptime_s", "workers", "streams"),
    ),
    "Target": record(
        {
            "name": TEXT,
            "proto": {"enum": ["tcp", "udp"]},
            "local": {**TEXT, "description": "Where the worker reaches the service"},
            "listen": {**TEXT, "description": "Where the server listens for its visitors: host:port, ..."},
            "open": {
                "type": "boolean",
                "description": "Whether it takes visitors; of a target with access=closed",
            },
            "auth": {
                "type": "boolean",
                "description": "True where the mux asks visitors for a password, and nothing else leads there",
            },
            "domains": {"type": "array", "items": TEXT, "description": "Host names of its own at the mux"},
            "healthy": {
                "type": "boolean",
                "description": "False while its worker sees that it does not work",
            },
            "why": {**TEXT, "description": "Why it does not work, empty where it does"},
            "streams": {**COUNT, "description": "Open ones; of a TCP target"},
            "flows": {**COUNT, "description": "Visitors that are there; of a UDP target"},
            "drops": {
                "type": "object",
                "additionalProperties": COUNT,
                "description": "Datagrams that were dropped at the server, by reason; of a UDP target",
            },
            "bytes_in": {**COUNT, "description": "From visitors to the target"},
            "bytes_out": {**COUNT, "description": "From the target to visitors"},
            "url": {"type": ["string", "null"], "description": "Its HTTP address, null when the mux is off"},
        },
        optional=("streams", "flows", "drops", "open", "auth", "domains"),
    ),
    "Worker": record(
        {
            "cid": CID,
            "tag": TEXT,
            "host": TEXT,
            "user": TEXT,
            "address": {**TEXT, "description": "Where it dialled from"},
            "connected_at": TIME,
            "ping_ms": {
                "type": ["number", "null"],
                "description": "The last round trip, null before the first",
            },
            "links": COUNT,
            "transports": {
                "type": "array",
                "items": {"enum": ["tcp", "tls", "ws", "wss"]},
                "description": "What its links lie on, each once",
            },
            "paths": {
                "type": "array",
                "items": ref("Path"),
                "description": "How its links fare, one for each that is up",
            },
            "targets": {"type": "array", "items": ref("Target")},
        }
    ),
    "Path": record(
        {
            "transport": {"enum": ["tcp", "tls", "ws", "wss"]},
            "round_trip_ms": {**SECONDS, "description": "The least of late, 0 before the first"},
            "bytes_per_s": {**COUNT, "description": "What the worker has acknowledged at best of late"},
            "in_flight_bytes": {**COUNT, "description": "Written and not acknowledged"},
            "bound_bytes": {**COUNT, "description": "What may be; 0 with --resume 0"},
            "congestion": {
                **TEXT,
                "description": "The kernel's congestion control, empty where it hides that",
            },
        }
    ),
    "Late": record(
        {
            "user": TEXT,
            "tag": TEXT,
            "host": TEXT,
            "since": {**TIME, "description": "When it went"},
            "usual_s": {**SECONDS, "description": "How long it is away at the most, as a rule"},
        }
    ),
    "Workers": record(
        {
            "workers": {"type": "array", "items": ref("Worker")},
            "late": {
                "type": "array",
                "items": ref("Late"),
                "description": "Workers that are not here and did not come back in their usual time",
            },
        }
    ),
    "Ping": record({"cid": CID, "sent_at": TIME, "rtt_ms": SECONDS}),
    "Kick": record({"cid": CID, "kicked": {"const": True}, "streams": COUNT, "grace_s": SECONDS}),
    "Opened": record(
        {
            "target": TEXT,
            "open": {"type": "boolean"},
            "until": {"anyOf": [TIME, {"type": "null"}], "description": "When it closes by itself"},
            "from": {**TEXT, "description": "From where, empty for anywhere"},
            "mappings": COUNT,
            "ports": {"type": "array", "items": COUNT},
        }
    ),
    "Nothing": {"type": "object", "maxProperties": 0},
    "Traffic": record(
        {
            "step_s": {**SECONDS, "description": "Time between two samples"},
            "last": {
                **COUNT,
                "description": "The number of the last sample: ask for those since it next time",
            },
            "all": record(BOTH),
            "workers": {
                "type": "object",
                "description": "By cid. Who is quiet is left out",
                "additionalProperties": record(
                    {**BOTH, "targets": {"type": "object", "additionalProperties": record(BOTH)}}
                ),
            },
        }
    ),
}


SCHEMAS["Reloaded"] = record(
    {"changed": {"type": "array", "items": TEXT}, "needs_restart": {"type": "array", "items": TEXT}}
)
INVITATION = {
    "number": COUNT,
    "user": TEXT,
    "tag": TEXT,
    "may": {**TEXT, "description": "Where its targets may be; empty: anywhere"},
    "expires_at": TIME,
    "tries": {**COUNT, "description": "Wrong codes that it still takes"},
    "over": {
        "enum": ["", "used", "expired", "withdrawn", "three wrong codes"],
        "description": "Empty while it is good",
    },
    "login": {"type": ["string", "null"], "description": "The credential that it was used for"},
}
SCHEMAS["Invited"] = record(
    {
        "code": {**TEXT, "description": "For aero join; nobody keeps it"},
        "port": {**COUNT, "description": "Where workers dial"},
        **INVITATION,
    }
)
SCHEMAS["Invites"] = record(
    {
        "invitations": {"type": "array", "items": record(INVITATION)},
        "credentials": {
            "type": "array",
            "items": record(
                {**dict.fromkeys(("login", "user", "tag", "may", "host", "address"), TEXT), "made_at": TIME}
            ),
        },
    }
)
ADDITION = {
    "to": {**TEXT, "description": "A tag, or CID@ for one worker"},
    "name": TEXT,
    "local": TEXT,
    "proto": {"enum": ["tcp", "udp"]},
    "remote": {**COUNT, "description": "The port that it asks for, 0 for any"},
    "until": {"anyOf": [TIME, {"type": "null"}], "description": "null: for good"},
}
SCHEMAS["AddedTo"] = record(
    {
        **ADDITION,
        "workers": {
            "type": "array",
            "description": "What became of it at those that are here",
            "items": record(
                {"cid": TEXT, "port": COUNT, "why": {**TEXT, "description": "Why it is not offered there"}}
            ),
        },
    }
)
SCHEMAS["Addition"] = record(ADDITION)
SCHEMAS["Additions"] = record({"targets": {"type": "array", "items": record(ADDITION)}})
SCHEMAS["Withdrawn"] = record({"withdrawn": TEXT})
SCHEMAS["History"] = record(
    {
        "by": TEXT,
        "step": TEXT,
        "from": TIME,
        "to": TIME,
        "zone": {"enum": ["UTC", "local"], "description": "Whose days and months"},
        "today": {**TEXT, "description": "The present day in the server's calendar: 2026-11-30"},
        "lines": {
            "type": "array",
            "description": "The oldest first; who was quiet has none",
            "items": record(
                {
                    "start": {**TIME, "description": "When the hour, day or month began"},
                    "when": {
                        **TEXT,
                        "description": "The same in the server's calendar: 2026-11, 2026-11-30, 2026-11-30T23:00",
                    },
                    "name": {
                        **TEXT,
                        "description": "A user's, a tag's, or TAG/TARGET; empty for the plain code; (others), see top",
                    },
                    **dict.fromkeys(NUMBERS, COUNT),
                    "refused": {
                        "type": "object",
                        "description": "Visitors and requests that were turned away, by reason",
                        "additionalProperties": COUNT,
                    },
                }
            ),
        },
    }
)
