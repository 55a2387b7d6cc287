"""Commands as processes of their own, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

COMMAND = [sys.executable, "-m", "pipeline"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}


def headrace_process(folder, *argv):
    return subprocess.run(
        [*COMMAND, *argv], cwd=folder, capture_output=True, text=True, check=False, env=ENVIRONMENT
    )
