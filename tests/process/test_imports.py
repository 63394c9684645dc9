"""What a stack does not use, it does not import."""

from __future__ import annotations

import subprocess
import sys


def test_a_stack_without_https_pays_nothing_for_it() -> None:
    program = (
        "import sys, msctl.runtime.stack, msctl.runtime.single_service\n"
        "import msctl.cli.verbs.up, msctl.cli.launch.detached\n"
        "print([name for name in ('cryptography', 'jwt') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
