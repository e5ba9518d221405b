"""Progress bars: distinct names, one at a time, in a terminal and in a notebook without widgets."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("tqdm")

CODE = """
import io, sys, types, warnings
warnings.simplefilter("error")
if {notebook}:
    sys.modules["ipykernel"] = types.ModuleType("ipykernel")
    sys.modules["ipywidgets"] = None  # not installed

class Terminal(io.StringIO):
    def isatty(self):
        return True

out, sys.stderr = sys.stderr, Terminal()
from rangebar_polars._utils import progress as module
module.SHOWN_AFTER_SECONDS = 0
with module.progress(3, "bars BTCUSDT", "day", verbose=True) as bars:
    bars(1)
    with module.progress(2, "fetch BTCUSDT", "day", verbose=True) as fetch:
        fetch(2)
        bars(1)  # a group that is published while the next month is fetched
    bars(1)
print(repr(sys.stderr.getvalue()))
"""


@pytest.mark.parametrize("notebook", [False, True])
def test_one_bar_is_shown_at_a_time(notebook: bool) -> None:
    code = CODE.format(notebook=notebook)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert "[A" not in run.stdout
    assert "\\n" not in run.stdout.rstrip().removesuffix("\\n'")
    assert "fetch BTCUSDT" in run.stdout
    assert "bars BTCUSDT: 100%" in run.stdout


def test_a_bar_comes_back_after_one_within_it_has_failed() -> None:
    body = """
with module.progress(5, "bars BTCUSDT", "day", verbose=True) as bars:
    try:
        with module.progress(2, "fetch BTCUSDT", "day", verbose=True) as fetch:
            raise OSError("no answer")
    except OSError:
        pass
    bars(5)
print(repr(sys.stderr.getvalue()))
"""
    code = CODE.format(notebook=False).partition("with module")[0] + body
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "bars BTCUSDT: 100%" in run.stdout
