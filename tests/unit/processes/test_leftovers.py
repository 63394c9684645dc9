"""What a hosted application started ends with the stack; what left its session stays."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import psutil, subprocess
from msctl.processes.leftovers import end_leftovers

left, daemon = (subprocess.Popen(["sleep", "600"], start_new_session=own) for own in (False, True))
end_leftovers()
print(psutil.pid_exists(left.pid), psutil.pid_exists(daemon.pid))
daemon.kill()
daemon.wait()
"""


def test_daemons_stay_and_other_children_end() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "True"], done.stderr
