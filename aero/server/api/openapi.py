"""The API's description in OpenAPI 3.1. What it says is what the tests hold the API to."""

from __future__ import annotations

from typing import Any

from aero import __version__
from aero.server.api.history import TOP, WHEN
from aero.server.api.replies import JSON
from aero.server.policy.access import LONGEST_S
from aero.server.store.usage import BY, NUMBERS, SPANS

Schema = dict[str, Any]

NAME = r"^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$"
TEXT: Schema = {"type": "string"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time", "description": "RFC 3339, UTC, microseconds"}
CID: Schema = {"type": "string", "description": "A worker's id"}
RATES: Schema = {"type": "array", "items": COUNT, "description": "Bytes a second, oldest sample first"}
BOTH = {"in": RATES, "out": RATES}


def _object(properties: dict[str, Schema], optional: tuple[str, ...] = ()) -> Schema:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


SCHEMAS: dict[str, Schema] = {
    "Error": _object({"error": {**TEXT, "description": "What is wrong, for people"}, "status": COUNT}),
    "Health": _object(
        {
            "status": {"const": "ok"},
            "version": TEXT,
            "uptime_s": SECONDS,
            "workers": COUNT,
            "streams": COUNT,
        },
        optional=("version", "uptime_s", "workers", "streams"),
    ),
    "Target": _object(
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
    "Worker": _object(
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
                "items": _ref("Path"),
                "description": "How its links fare, one for each that is up",
            },
            "targets": {"type": "array", "items": _ref("Target")},
        }
    ),
    "Path": _object(
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
    "Late": _object(
        {
            "user": TEXT,
            "tag": TEXT,
            "host": TEXT,
            "since": {**TIME, "description": "When it went"},
            "usual_s": {**SECONDS, "description": "How long it is away at the most, as a rule"},
        }
    ),
    "Workers": _object(
        {
            "workers": {"type": "array", "items": _ref("Worker")},
            "late": {
                "type": "array",
                "items": _ref("Late"),
                "description": "Workers that are not here and did not come back in their usual time",
            },
        }
    ),
    "Ping": _object({"cid": CID, "sent_at": TIME, "rtt_ms": SECONDS}),
    "Kick": _object({"cid": CID, "kicked": {"const": True}, "streams": COUNT, "grace_s": SECONDS}),
    "Opened": _object(
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
    "Traffic": _object(
        {
            "step_s": {**SECONDS, "description": "Time between two samples"},
            "last": {
                **COUNT,
                "description": "The number of the last sample: ask for those since it next time",
            },
            "all": _object(BOTH),
            "workers": {
                "type": "object",
                "description": "By cid. Who is quiet is left out",
                "additionalProperties": _object(
                    {**BOTH, "targets": {"type": "object", "additionalProperties": _object(BOTH)}}
                ),
            },
        }
    ),
}


SCHEMAS["Reloaded"] = _object(
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
SCHEMAS["Invited"] = _object(
    {
        "code": {**TEXT, "description": "For aero join; nobody keeps it"},
        "port": {**COUNT, "description": "Where workers dial"},
        **INVITATION,
    }
)
SCHEMAS["Invites"] = _object(
    {
        "invitations": {"type": "array", "items": _object(INVITATION)},
        "credentials": {
            "type": "array",
            "items": _object(
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
SCHEMAS["AddedTo"] = _object(
    {
        **ADDITION,
        "workers": {
            "type": "array",
            "description": "What became of it at those that are here",
            "items": _object(
                {"cid": TEXT, "port": COUNT, "why": {**TEXT, "description": "Why it is not offered there"}}
            ),
        },
    }
)
SCHEMAS["Addition"] = _object(ADDITION)
SCHEMAS["Additions"] = _object({"targets": {"type": "array", "items": _object(ADDITION)}})
SCHEMAS["Withdrawn"] = _object({"withdrawn": TEXT})
SCHEMAS["History"] = _object(
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
            "items": _object(
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


def _query(name: str, schema: Schema, text: str, required: bool = False) -> Schema:
    return {"name": name, "in": "query", "schema": schema, "description": text, "required": required}


WHICH = _query("cid", {"type": "string", "minLength": 1}, "Which worker", required=True)
TAGS = _query(
    "tags",
    {"type": "array", "minItems": 1, "items": {"type": "string", "pattern": NAME}},
    "Only workers with one of these tags, separated by commas",
)
TAGS.update({"style": "form", "explode": False})
SINCE = _query(
    "since", {"type": "integer", "minimum": 0, "maximum": 10**12 - 1}, "Only samples after this one"
)
HISTORY = (
    _query("by", {"enum": list(BY)}, "Whose traffic to sum up (target)"),
    _query("step", {"enum": list(SPANS)}, "How long a line is (day)"),
    _query("from", {"type": "string", "pattern": WHEN}, "The first month, day or moment"),
    _query(
        "to", {"type": "string", "pattern": WHEN}, "The last month or day, or the moment at which to stop"
    ),
    _query(
        "top",
        {"type": "integer", "minimum": 1, "maximum": TOP},
        "So many names that moved the most in all; the others are summed up as (others)",
    ),
)
OPENS = (
    _query(
        "target",
        {"type": "string", "pattern": "^[a-z0-9-]{1,63}@?/[a-z0-9-]{1,63}$"},
        "TAG/NAME, or CID@/NAME",
        required=True,
    ),
    _query(
        "for", {"type": "integer", "minimum": 0, "maximum": LONGEST_S}, "Seconds; 0 closes it", required=True
    ),
    _query(
        "from",
        {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]},
        "Only from this address or, as 10.0.0.0/8, this network; me: from where you ask",
    ),
    _query("cut", {"enum": [0, 1]}, "1: when it closes, open streams end"),
)
INVITES = (
    _query("user", {"type": "string", "pattern": "^[a-z0-9]{1,40}$"}, "Whose worker", required=True),
    _query("tag", {"type": "string", "pattern": NAME}, "The worker's tag (the user's name)"),
    _query("may", {"type": "string", "minLength": 1}, "Where its targets may be, as --allow has it"),
    _query("for", {"type": "integer", "minimum": 60, "maximum": 604800}, "Seconds that it is good for (600)"),
    _query("words", {"type": "integer", "minimum": 2, "maximum": 6}, "Words of the code (2)"),
)
ADDS = (
    _query(
        "to",
        {"type": "string", "pattern": "^[a-z0-9]{1,63}@$"},
        "A tag, or CID@ for one worker",
        required=True,
    ),
    _query("name", {"type": "string", "pattern": NAME}, "The target's name", required=True),
    _query(
        "local",
        {"type": "string", "pattern": "^[a-z]{1,20}:[1-9][0-9]{0,3}$"},
        "Where it is, as the worker sees it: HOST:PORT",
        required=True,
    ),
    _query("proto", {"enum": ["tcp", "udp"]}, "Its protocol (tcp)"),
    _query("remote", {"type": "integer", "minimum": 0, "maximum": 65535}, "The port that it asks for (any)"),
    _query("for", {"type": "integer", "minimum": 0, "maximum": 2592000}, "Seconds; 0, or none: for good"),
)
REMOVES = (
    _query("target", {"type": "string", "minLength": 1}, "TAG/NAME, or CID@/NAME", required=True),
    _query("proto", {"enum": ["tcp", "udp"]}, "Its protocol (tcp)"),
)
WITHDRAWS = _query(
    "name",
    {"type": "string", "minLength": 1},
    "An invitation's number, or USER+ID of a credential",
    required=True,
)
LAST_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "schema": TEXT,
    "description": "Events after this one come first; of what is remembered all, when it is not known",
}


def _content(kind: str, schema: Schema, text: str) -> Schema:
    return {"description": text, "content": {kind: {"schema": schema}}}


def _operation(
    name: str, summary: str, good: Schema, *more: Schema, problems: tuple[int, ...] = ()
) -> Schema:
    responses = {"200": good}
    for status in sorted({400, 403, *problems}):
        responses[str(status)] = _content(JSON, _ref("Error"), PROBLEMS[status])
    return {"operationId": name, "summary": summary, "parameters": list(more), "responses": responses}


PROBLEMS = {
    400: "A parameter is missing, unknown or wrong, or the request cannot be read",
    401: "The token, or the key to change things, is missing or wrong",
    403: "The Host header names another host, or another web site asks",
    404: "There is no such worker",
    409: "The target is public, or its port is used by another program",
    411: "A body without Content-Length",
    413: "The body is too long",
    415: "The body is not JSON",
    503: "Too many listen already",
    504: "The worker does not answer",
}


#: Paths that nobody needs a token for: the page asks for it, and health checks have none.
OPEN = ("/", "/health")


def document(has_token: bool) -> Schema:
    """The whole description; ``has_token``: the API asks for one. Without it calls that change something need a key."""
    paths = {
        "/health": {"get": _get("health", "Whether the server works", "Health")},
        "/list": {"get": _get("list", "Workers and their targets", "Workers", TAGS)},
        "/ping": {"get": _get("ping", "Pings a worker now", "Ping", WHICH, problems=(404, 504))},
        "/kick": {"post": _kick()},
        "/open": {"post": _open()},
        "/reload": {"post": _reload()},
        "/targets": {
            "get": _get("targets", "The targets that were added", "Additions"),
            "post": _posted(
                "add",
                "Adds a target to workers that run",
                "AddedTo",
                ADDS,
                {
                    404: "There is no such worker now",
                    409: "No worker takes it, or another was added by this name",
                },
            ),
        },
        "/targets/remove": {
            "post": _posted(
                "remove",
                "Takes a target away that was added",
                "Addition",
                REMOVES,
                {
                    404: "No such target was added",
                },
            ),
        },
        "/invite": {
            "post": _posted(
                "invite",
                "Invites a worker of a user's, by a short code",
                "Invited",
                INVITES,
                {
                    409: "The user's rules, or the server, do not allow it",
                },
            ),
        },
        "/invites": {"get": _get("invites", "Who was invited, and who came", "Invites")},
        "/withdraw": {
            "post": _posted(
                "withdraw",
                "Withdraws an invitation, or what came of one",
                "Withdrawn",
                (WITHDRAWS,),
                {
                    404: "There is no such open invitation, and no such credential",
                },
            ),
        },
        "/traffic": {"get": _get("traffic", "Throughput of the last ten minutes", "Traffic", SINCE)},
        "/traffic/history": {"get": _history()},
        "/events": {
            "get": _operation(
                "events",
                "Events as they happen: workers and mappings up and down, faults",
                _content("text/event-stream", TEXT, "A stream that does not end"),
                LAST_ID,
                problems=(503,),
            )
        },
        "/metrics": {
            "get": _operation(
                "metrics", "Numbers for Prometheus", _content("text/plain", TEXT, "Text format 0.0.4")
            )
        },
        "/openapi.json": {
            "get": _operation(
                "openapi", "This description", _content(JSON, {"type": "object"}, "OpenAPI 3.1")
            )
        },
        "/": {"get": _operation("page", "The page for people", _content("text/html", TEXT, "The page"))},
    }
    components: Schema = {"schemas": SCHEMAS}
    described: Schema = {
        "openapi": "3.1.0",
        "info": {"title": "AeRO-proxy management API", "version": __version__},
        "paths": paths,
        "components": components,
    }
    scheme = "token" if has_token else "key"
    components["securitySchemes"] = {scheme: {"type": "http", "scheme": "bearer"}}
    for path, methods in paths.items():
        for method, operation in methods.items():
            if method == "post" or (has_token and path not in OPEN):
                operation["security"] = [{scheme: []}]
                operation["responses"]["401"] = _content(JSON, _ref("Error"), PROBLEMS[401])
    return described


def _get(name: str, summary: str, schema: str, *more: Schema, problems: tuple[int, ...] = ()) -> Schema:
    return _operation(name, summary, _content(JSON, _ref(schema), summary), *more, problems=problems)


def _history() -> Schema:
    operation = _get("history", "The traffic of the past", "History", *HISTORY, problems=(404,))
    operation["responses"]["200"]["content"]["text/csv"] = {"schema": TEXT}
    operation["responses"]["404"]["description"] = "No history is kept"
    return operation


def _open() -> Schema:
    summary = "Opens a target with access=closed for a time, or closes it"
    operation = _get("open", summary, "Opened", *OPENS, problems=(404, 409, 411, 413, 415))
    operation["responses"]["404"]["description"] = "There is no such target"
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref("Nothing")}}}
    return operation


def _reload() -> Schema:
    summary = "Reads the configuration, the users and the certificates again, as SIGHUP does"
    operation = _get("reload", summary, "Reloaded", problems=(409, 411, 413, 415, 503))
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref("Nothing")}}}
    return operation


def _posted(
    name: str, summary: str, schema: str, queries: tuple[Schema, ...], problems: dict[int, str]
) -> Schema:
    operation = _get(name, summary, schema, *queries, problems=(*problems, 411, 413, 415))
    for status, text in problems.items():
        operation["responses"][str(status)]["description"] = text
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref("Nothing")}}}
    return operation


def _kick() -> Schema:
    summary = "Sends a worker away; it comes back by itself after half a minute"
    operation = _get("kick", summary, "Kick", WHICH, problems=(404, 411, 413, 415))
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": _ref("Nothing")}}}
    return operation
