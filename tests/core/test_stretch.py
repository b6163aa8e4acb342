"""A code that is stretched by a thread of its own: the same scalars, whatever becomes of the thread."""

from __future__ import annotations

import threading

import pytest

from aero.core.stretch import Stretching, stretch


def test_a_thread_finds_what_the_function_finds() -> None:
    assert Stretching("code", "nas").result("code", "nas") == stretch("code", "nas")


def test_another_code_than_the_one_begun_is_stretched_when_it_is_asked_for() -> None:
    begun = Stretching("code", "")
    assert begun.result("another", "") == stretch("another", "")
    assert begun.result("code", "nas") == stretch("code", "nas")
    begun.result("code", "")  # the thread ends with this test


def test_where_no_thread_can_be_had_the_caller_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    assert Stretching("code", "").result("code", "") == stretch("code", "")


def test_a_thread_that_failed_leaves_the_work_to_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Stretching, "_run", lambda self: None)
    assert Stretching("code", "").result("code", "") == stretch("code", "")
