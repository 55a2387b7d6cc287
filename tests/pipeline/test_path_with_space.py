"""An environment in a folder with a space in its name: Ray's workers start there too."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = """
import ray
from pipeline.cluster import ClusterConfig, connected

@ray.remote(runtime_env={"env_vars": {"ANSWER": "42"}})  # as Ray Train starts its ranks
def answer():
    import os, sys
    return os.environ["ANSWER"] + " " + sys.executable

with connected(ClusterConfig(num_cpus=1), on_loss=print):
    print(ray.get(answer.remote(), timeout=100))
"""


@pytest.mark.slow
def test_workers_with_environment_variables_start(tmp_path):
    environment = tmp_path / "my folder"
    environment.symlink_to(sys.prefix, target_is_directory=True)
    python = environment / "bin/python"
    done = subprocess.run(
        [str(python), "-c", CODE], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert done.stdout.strip().endswith(f"42 {python}"), done.stderr[-2000:]
