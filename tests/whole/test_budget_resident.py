"""What a call with a budget takes from the system is what was foretold, within a tenth."""

import subprocess
import sys
from pathlib import Path

import pytest

MEASURED = """
import re
import sys
from pathlib import Path

import numpy as np

import dgraph as dg

TEXT = '''
def f[n](x: f64[n], w: f64, steps: size) -> f64:
    for t in range(steps):
        a = sin(w * x)
        b = exp(-x * x)
        x = x + 0.01 * (a * b + tanh(x + a) * x)
    return sum(x * x)
'''

def resident(name):
    return int(re.search(rf"{name}:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024

step = dg.compile(dg.value_and_grad(dg.parse(TEXT).f, wrt=("x", "w")), budget=sys.argv[1])
arguments = np.linspace(-1, 1, 20_000), 1.3, 100
told = step.memory(*arguments).peak
step(np.linspace(-1, 1, 20), 1.3, 3)
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
step(*arguments)
choice = step.choice(*arguments)
words = [loop["keeps"] for loop in choice["loops"]] or (["less"] if choice["steps"] else ["all"])
print(told, resident("VmHWM") - before, *words)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the resident set is read from /proc")
@pytest.mark.parametrize(("budget", "way"), [("1GB", "all"), ("40MB", "less"), ("18MB", "less"), ("8MB", "every")])
def test_the_resident_set_grows_by_what_was_foretold(budget: str, way: str):
    command = [sys.executable, "-c", MEASURED, budget]
    told, grown, *words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert words == [way]
    assert 0.9 * int(told) <= int(grown) + 300_000
    assert int(grown) <= 1.1 * int(told) + 300_000, "a few pages are not the call's"
