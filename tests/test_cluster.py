"""cluster.yaml is one that Ray's launcher accepts, and what it runs is there."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

ROOT = Path(__file__).parent.parent


@pytest.fixture
def cluster() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def test_the_launcher_accepts_it(cluster):
    prepared = prepare_config(cluster)
    validate_config(prepared)
    (node_type,) = prepared["available_node_types"].values()
    assert node_type["max_workers"] == len(cluster["provider"]["worker_ips"])


def test_every_command_is_shell(cluster):
    for key in [key for key in cluster if key.endswith("_commands")]:
        for command in cluster[key]:
            checked = subprocess.run(
                ["bash", "-n"], input=command, text=True, capture_output=True, check=False
            )
            assert checked.returncode == 0, f"{key}: {checked.stderr}"


def test_the_jobs_server_is_not_open_to_the_network(cluster):
    """Whoever reaches it runs any program as the cluster's user."""
    starts = [command for command in cluster["head_start_ray_commands"] if "ray start" in command]
    assert starts
    assert all("--dashboard-host=127.0.0.1" in start for start in starts)


def test_nodes_install_the_pinned_stack(cluster):
    (remote,) = cluster["file_mounts"]
    (install,) = [command for command in cluster["setup_commands"] if "pip install" in command]
    assert f"cd {remote} " in install
    assert "PIP_CONSTRAINT=constraints.txt" in install
