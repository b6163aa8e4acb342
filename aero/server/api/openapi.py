"""The API's description in OpenAPI 3.1: its calls. What it says is what the tests hold the API to."""

from __future__ import annotations

from aero import __version__
from aero.server.api.history import TOP, WHEN
from aero.server.api.replies import JSON
from aero.server.api.schemas import NAME, SCHEMAS, TEXT, Schema, ref
from aero.server.policy.access import LONGEST_S
from aero.server.store.usage import BY, SPANS


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
        responses[str(status)] = _content(JSON, ref("Error"), PROBLEMS[status])
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
                operation["responses"]["401"] = _content(JSON, ref("Error"), PROBLEMS[401])
    return described


def _get(name: str, summary: str, schema: str, *more: Schema, problems: tuple[int, ...] = ()) -> Schema:
    return _operation(name, summary, _content(JSON, ref(schema), summary), *more, problems=problems)


def _history() -> Schema:
    operation = _get("history", "The traffic of the past", "History", *HISTORY, problems=(404,))
    operation["responses"]["200"]["content"]["text/csv"] = {"schema": TEXT}
    operation["responses"]["404"]["description"] = "No history is kept"
    return operation


def _open() -> Schema:
    summary = "Opens a target with access=closed for a time, or closes it"
    operation = _get("open", summary, "Opened", *OPENS, problems=(404, 409, 411, 413, 415))
    operation["responses"]["404"]["description"] = "There is no such target"
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": ref("Nothing")}}}
    return operation


def _reload() -> Schema:
    summary = "Reads the configuration, the users and the certificates again, as SIGHUP does"
    operation = _get("reload", summary, "Reloaded", problems=(409, 411, 413, 415, 503))
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": ref("Nothing")}}}
    return operation


def _posted(
    name: str, summary: str, schema: str, queries: tuple[Schema, ...], problems: dict[int, str]
) -> Schema:
    operation = _get(name, summary, schema, *queries, problems=(*problems, 411, 413, 415))
    for status, text in problems.items():
        operation["responses"][str(status)]["description"] = text
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": ref("Nothing")}}}
    return operation


def _kick() -> Schema:
    summary = "Sends a worker away; it comes back by itself after half a minute"
    operation = _get("kick", summary, "Kick", WHICH, problems=(404, 411, 413, 415))
    operation["requestBody"] = {"required": True, "content": {JSON: {"schema": ref("Nothing")}}}
    return operation
