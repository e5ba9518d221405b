"""Forked children: an operation answers or raises; it never waits for threads of the parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")

# Guards against a hang; no test depends on how soon a child answers.
DEADLINE_S = 300

PRELUDE = """
import json, os, sys, threading
import polars as pl
import rangebar_polars as rb
from rangebar_polars._utils import fork as _fork

def use_polars():
    frame = pl.DataFrame({"a": [1, 2]})
    frame.filter(pl.col("a") > 1)
    frame.lazy().select(pl.col("a") + 1).collect(engine="streaming")

def in_child(operation):
    \"\"\"What an operation gives in a forked child: its value, or the error that it raises.\"\"\"
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            said = ["value", operation()]
        except Exception as error:
            said = [type(error).__name__, str(error)]
        os.write(writer, json.dumps(said, default=str).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        said = json.loads(answer.read() or "null")
    os.waitpid(child, 0)
    return said
"""


def run(code: str, *arguments: str) -> object:
    """What a script prints as JSON in a process of its own."""
    command = [sys.executable, "-c", PRELUDE + code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


CHECKED = """
if sys.argv[1] == "used":
    use_polars()
if sys.argv[2] == "nameless":
    _fork._thread_names = lambda: []
    _fork._PROBE_LIMIT_S = 1.0 if sys.argv[1] == "used" else _fork._PROBE_LIMIT_S

def work():
    _fork.raise_if_forked("work")
    use_polars()
    return "done"

print(json.dumps([work(), in_child(work)] if sys.argv[1] == "used" else [None, in_child(work)]))
"""


@pytest.mark.parametrize("platform", ["named", "nameless"])
def test_a_child_of_a_process_that_only_imported_polars_can_use_it(platform):
    assert run(CHECKED, "unused", platform) == [None, ["value", "done"]]


@pytest.mark.parametrize("platform", ["named", "nameless"])
def test_a_child_of_a_process_that_used_polars_is_told_to_use_spawn(platform):
    done, (kind, message) = run(CHECKED, "used", platform)
    assert done == "done"
    assert kind == "ForkedProcessError"
    assert "`work` cannot run" in message
    assert 'get_context("spawn")' in message


def test_a_grandchild_inherits_what_its_grandparent_did():
    code = """
use_polars()
print(json.dumps(in_child(lambda: in_child(lambda: _fork.raise_if_forked("work")))[1]))
"""
    assert run(code)[0] == "ForkedProcessError"


def test_a_lock_that_another_thread_holds_is_free_in_a_child():
    code = """
lock, held, end = _fork.ForkSafeLock(), threading.Event(), threading.Event()

def hold():
    with lock:
        held.set()
        end.wait()

def take():
    with lock:
        return "taken"

thread = threading.Thread(target=hold)
thread.start()
held.wait()
said = in_child(take)
end.set()
thread.join()
print(json.dumps([said, take()]))
"""
    assert run(code) == [["value", "taken"], "taken"]


def test_leaving_a_block_entered_before_the_fork_does_not_release_the_lock_of_the_child():
    code = """
lock = _fork.ForkSafeLock()

def leave_the_block_of_the_parent_while_another_thread_holds_the_lock():
    held, end = threading.Event(), threading.Event()
    def hold():
        with lock:
            held.set()
            end.wait()
    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    lock.__exit__(None, None, None)
    is_held = lock._lock.locked()
    end.set()
    thread.join()
    return is_held, lock._lock.locked()

with lock:
    said = in_child(leave_the_block_of_the_parent_while_another_thread_holds_the_lock)
print(json.dumps(said))
"""
    assert run(code) == ["value", [True, False]]


def test_what_the_parent_began_is_not_continued_in_a_child():
    code = """
begun = _fork.fork_count()
_fork.raise_if_inherited(begun, "the iteration")
print(json.dumps(in_child(lambda: _fork.raise_if_inherited(begun, "the iteration"))))
"""
    kind, message = run(code)
    assert kind == "ForkedProcessError"
    assert "`the iteration` was begun in process" in message
