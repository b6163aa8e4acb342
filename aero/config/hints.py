"""What to say about a word that nobody knows: what was meant, or what there is."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word that is most like an unknown one, "" when none is."""
    import difflib

    if len(word) < 3:
        return ""  # a letter or two are like anything
    return next(iter(difflib.get_close_matches(word.lower().replace("_", "-"), list(known), 1)), "")


def instead(word: str, known: Iterable[str]) -> str:
    """What to write instead of an unknown word, as the end of a message."""
    names = list(known)
    meant = nearest(word, names)
    return f"did you mean {meant}?" if meant else f"known are {', '.join(names)}"


def shown(word: str) -> str:
    """A word from outside as it may stand in a message: short, printable."""
    word = word if len(word) <= 60 else word[:60] + "..."
    return word if word.isprintable() else ascii(word)
