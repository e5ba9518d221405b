"""Failpoints: an observer sees the steps of every thread of its process, while it lasts."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from rangebar_polars._files.failpoints import Step, failpoint, on_failpoint


def test_a_step_of_a_pool_that_was_there_before_is_seen():
    seen = []

    def reach() -> None:
        failpoint(Step.LOCKED)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(reach).result()  # the thread runs from here on
        with on_failpoint(lambda step: seen.append((step, threading.current_thread()))):
            pool.submit(reach).result()
            failpoint(Step.LINKED)
        pool.submit(reach).result()
    assert [step for step, _ in seen] == [Step.LOCKED, Step.LINKED]
    assert [thread is threading.current_thread() for _, thread in seen] == [False, True]


def test_every_observer_sees_a_step_and_one_that_raises_cuts_the_thread_off():
    outer, inner = [], []
    with on_failpoint(outer.append):
        with on_failpoint(inner.append):
            failpoint(Step.LOCKED)
        with pytest.raises(KeyError), on_failpoint({}.__getitem__):
            failpoint(Step.LINKED)
        failpoint(Step.TEMP_REMOVED)
    assert outer == [Step.LOCKED, Step.LINKED, Step.TEMP_REMOVED]
    assert inner == [Step.LOCKED]


def test_a_step_belongs_to_an_area_and_has_a_name_of_its_own():
    assert {step.area for step in Step} == {"disk", "cache", "live", "repair"}
    assert [step.value for step in Step] == [f"{step.area}.{step.name.lower()}" for step in Step]
