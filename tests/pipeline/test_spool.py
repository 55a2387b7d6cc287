"""What tracking stands on: the spool, the database, and who is alive."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import ConfigError
from pipeline.tracking.config import TrackingConfig, tracking_uri
from pipeline.tracking.server import create_database, open_client
from pipeline.tracking.spool import Spool


@pytest.mark.slow
def test_a_database_is_whole_or_not_there(tmp_path):
    path = tmp_path / "a" / "mlflow.db"
    code = f"from pathlib import Path; from pipeline.tracking.server import *; create_database(Path({str(path)!r}))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=Path.cwd())
    while not list(path.parent.glob(".mlflow.db.*")) and process.poll() is None:
        time.sleep(0.001)
    process.kill()
    process.wait()
    create_database(path)
    assert open_client(f"sqlite:///{path}").search_experiments()


def test_a_remote_store_needs_a_tracking_uri():
    with pytest.raises(ConfigError) as caught:
        tracking_uri(TrackingConfig(), store_path=None)
    assert caught.value.where == "tracking.uri"


def test_a_spool_of_a_living_process_is_left_alone(tmp_path):
    mine = Spool.create(tmp_path, uri="u")
    mine.append({"op": "x"})
    assert list(Spool.abandoned(tmp_path, uri="u")) == []
    mine.close()
    (found,) = [spool.pending()[-1][0] for spool in Spool.abandoned(tmp_path, uri="u")]
    assert found == {"op": "x"}
    assert list(Spool.abandoned(tmp_path, uri="another")) == []
    assert mine.path.exists()
