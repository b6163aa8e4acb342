"""Documents agree with each other and with the tree: both READMEs, links, the list of rooms, the names of events."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("bench/*.md")])
ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh-CN.md"
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return _FENCE.sub("", text)


def headings(text: str) -> list[tuple[int, str]]:
    """Level and words of every heading."""
    found = re.findall(r"^(#+) (.+)$", without_code(text), re.MULTILINE)
    return [(len(marks), words) for marks, words in found]


def commands(text: str) -> list[str]:
    """What stands in blocks of code, without what is said about it; of pictures only what connects what."""
    blocks = []
    for kind, content in _FENCE.findall(text):
        if kind == "mermaid":
            blocks.append(" ".join(re.findall(r"-->|==>|^\s*subgraph|^\s*end", content, re.MULTILINE)))
        else:
            blocks.append("\n".join(re.sub(r"\s+#.*$", "", line) for line in content.splitlines()))
    return blocks


def inline(text: str) -> list[str]:
    """Words in code letters, in no order: sentences turn round from language to language."""
    words = re.findall(r"`([^`\n]+)`", without_code(text))
    return sorted(word for word in words if word.isascii())


def slug(heading: str) -> str:
    """The anchor that forges give a heading."""
    plain = re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).lower())
    return plain.replace(" ", "-")


def test_both_readmes_have_the_same_parts() -> None:
    english, chinese = (path.read_text() for path in (ENGLISH, CHINESE))
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert len(re.findall(r"^(- |\| )", english, re.MULTILINE)) == len(
        re.findall(r"^(- |\| )", chinese, re.MULTILINE)
    ), "a line of a list or a table is missing in one of them"


def test_both_readmes_name_the_same_commands() -> None:
    english, chinese = (path.read_text() for path in (ENGLISH, CHINESE))
    assert commands(english) == commands(chinese)
    assert inline(english) == inline(chinese)


def test_both_readmes_lead_to_the_same_places() -> None:
    english, chinese = (_LINK.findall(path.read_text()) for path in (ENGLISH, CHINESE))
    assert sorted(chinese) == sorted("README.md" if link == "README.zh-CN.md" else link for link in english)


def test_the_first_screen_shows_how_to_build_and_check() -> None:
    for path in (ENGLISH, CHINESE):
        screen = "\n".join(path.read_text().splitlines()[:24])
        assert "./build_pyz.sh && python3 aero.pyz demo" in screen, path.name
        assert "./tests/run" in screen, path.name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    dead = []
    for link in _LINK.findall(without_code(path.read_text())):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        there = (path.parent / name).resolve() if name else path
        known = there.exists() and (
            not anchor or anchor in {slug(words) for _, words in headings(there.read_text())}
        )
        if not known:
            dead.append(link)
    assert not dead, f"{path.name}: {dead}"


def events_in_code() -> set[str]:
    """The first words of every ``emit`` and ``fault`` call of the server."""
    found = set()
    for path in (ROOT / "aero" / "server").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in ("emit", "fault")
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                found.add(str(node.args[0].value))
    return found


def test_every_event_is_described_and_has_its_words_on_the_page() -> None:
    described = (ROOT / "docs" / "api.md").read_text()
    words = (ROOT / "aero" / "server" / "api" / "ui" / "words.js").read_text()
    names = events_in_code()
    assert names
    assert [name for name in sorted(names) if f"`{name}`" not in " ".join(described.split())] == []
    assert [name for name in sorted(names) if words.count(f'"{name}": (e) =>') != 2] == [], (
        "in both languages"
    )


def rooms_in_architecture() -> list[str]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    return re.findall(r"^\| `(aero/[^`]*)` \|", text, re.MULTILINE)


def test_every_room_is_in_the_architecture_and_every_line_is_a_room() -> None:
    listed = rooms_in_architecture()
    assert [name for name in listed if not (ROOT / name).exists()] == []
    package = ROOT / "aero"
    folders = {path.parent for path in package.rglob("__init__.py")} - {package}
    there = {str(path.relative_to(ROOT)) for path in folders}
    known = set(listed)
    missing = [
        name
        for name in sorted(there)
        if name not in known and name.rpartition("/")[0] not in known - {"aero"}
    ]
    assert [name for name in missing if name != "aero/server"] == []
    loose = {f"aero/{path.name}" for path in package.glob("*.py")} | {
        f"aero/server/{path.name}" for path in (package / "server").glob("*.py")
    }
    entries = {"aero/__init__.py", "aero/__main__.py", "aero/server/__init__.py"}
    assert sorted(loose - entries - known) == []


def test_the_pictures_name_modules_that_there_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    (picture,) = (content for kind, content in _FENCE.findall(text) if kind == "mermaid")
    server, worker = picture.split("subgraph worker")
    named = [
        (part, label.split("<br>")[0])
        for part, half in (("server", server), ("worker", worker))
        for label in re.findall(r'\["([^"]+)"\]', half)
        if not label.startswith("aero/")
    ]
    assert len(named) > 8
    for part, label in named:
        first, *more = label.split(", ")
        room = first.rpartition("/")[0]
        for module in (first, *(f"{room}/{each}" for each in more)):
            places = [ROOT / "aero" / module, ROOT / "aero" / part / module]
            assert any(place.is_dir() or place.with_suffix(".py").is_file() for place in places), module
