"""Every callback of the loop, as the sources have them: an exception there ends one thing and leaves nobody waiting."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "aero"

#: Callbacks of classes without ``faulted``, and why an exception there leaves nobody waiting: who asks again, or what
#: comes anyway.
HARMLESS = {
    "Mux._sweep": "a timer that repeats: the loop goes on with it, and each visitor is caught by himself",
    "Traffic.sample": "a timer that repeats, for numbers that people look at",
    "Lag._late": "a number that people look at",
    "Lobby._on_time": "each visitor is caught by himself",
    "Throttle._on_time": "each stream is caught by itself",
    "ServerRates._look": "a timer that repeats",
    "ServerRates._tell": "who comes next has it called anew, and a look tells the others",
    "Checks._tell": "the next look at a target has it called anew",
    "Hooks._look": "a timer that repeats",
    "Quotas.look": "a timer that repeats",
    "UdpDoor._look": "a timer that repeats",
    "Conversations._look": "a timer that repeats",
    "Turns._on_next_turn": "it switches to a greenlet, whose errors are its own",
    "Acceptor._start_accepting_if_started": "gevent's own",
    "Registry._look_after": "a timer that repeats",
    "Sessions._tidy": "the next session that ends asks for it anew",
    "Sessions._look_at_frozen": "a timer that repeats, and each session is caught by itself",
    "Names._slow": "the look-up itself answers, and whoever waits has a time of his own",
}


def callbacks() -> Iterator[tuple[str, ast.ClassDef, str]]:
    """Class and method, for each method that is given to a watcher or to ``run_callback``."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ClassDef):
                continue
            for call in ast.walk(node):
                if (
                    not isinstance(call, ast.Call)
                    or not isinstance(call.func, ast.Attribute)
                    or not call.args
                ):
                    continue
                given = call.args[0]
                own = (
                    isinstance(given, ast.Attribute)
                    and isinstance(given.value, ast.Name)
                    and given.value.id == "self"
                )
                if call.func.attr in ("start", "run_callback") and own:
                    assert isinstance(given, ast.Attribute)
                    yield f"{node.name}.{given.attr}", node, given.attr


def catches(owner: ast.ClassDef, name: str) -> bool:
    """Whether all that a method does, but for plain assignments before it, stands within ``try``."""
    for method in owner.body:
        if isinstance(method, ast.FunctionDef) and method.name == name:
            body = [each for each in method.body if not isinstance(each, (ast.Expr, ast.Assign))]
            return len(body) == 1 and isinstance(body[0], ast.Try)
    return False


def test_an_error_in_a_callback_finds_somebody_who_ends_what_it_belongs_to() -> None:
    found, alone = set(), set()
    for name, owner, method in callbacks():
        found.add(name)
        told = any(isinstance(each, ast.FunctionDef) and each.name == "faulted" for each in owner.body)
        if not told and not catches(owner, method) and name not in HARMLESS:
            alone.add(name)
    assert len(found) > 20
    assert not alone, "give the class a faulted(), or say in HARMLESS why it needs none"
    assert HARMLESS.keys() <= found, f"there are none any more: {HARMLESS.keys() - found}"
