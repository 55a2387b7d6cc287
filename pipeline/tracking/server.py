"""The way to MLflow: quiet, without telemetry, with a database that is whole or not there."""

import os
from pathlib import Path
from typing import Any

from pipeline.tracking.config import artifact_location, sqlite_path

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it would call home
    "DO_NOT_TRACK": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",  # it would write to stderr past the caller's loggers
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "30"}
"The delivery repeats for as long as it takes; MLflow's own retries would only hide for minutes what is wrong."

EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"Opens MLflow's pages on training runs, not on traces of chat applications."


def quiet_mlflow() -> None:
    """Keep MLflow silent and off the network but for the tracking URI; call before its first import."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def be_impatient() -> None:
    for name, value in PATIENCE.items():
        os.environ.setdefault(name, value)


def open_client(uri: str, *, registry_uri: str | None = None) -> Any:
    """An `mlflow.MlflowClient` on `uri`; a new SQLite database, or two, is made first."""
    quiet_mlflow()
    for each in (uri, registry_uri or uri):
        database = sqlite_path(each)
        if database is not None:
            create_database(database)
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=uri, registry_uri=registry_uri or uri)


def create_database(path: Path) -> None:
    """Make MLflow's SQLite database at `path` where there is none, atomically.

    MLflow migrates a new database through its whole history, with an fsync at each of some seventy steps: seconds
    on a busy disk, and a kill in between leaves tables that no later start can use. So it is migrated under a
    temporary name without fsync and linked into place.
    """
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    _migrate(temporary)
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first
    except OSError:  # a filesystem without hard links
        temporary.replace(path)
    temporary.unlink(missing_ok=True)


def _migrate(path: Path) -> None:
    import sqlalchemy
    from mlflow.store.db import utils
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    engine = sqlalchemy.create_engine(f"sqlite:///{path}")

    @sqlalchemy.event.listens_for(engine, "connect")
    def skip_fsync(connection: Any, _: Any) -> None:
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA journal_mode = MEMORY")

    utils._initialize_tables(engine)  # noqa: SLF001 (the public way migrates in place)
    engine.dispose()
    # The store adds the "Default" experiment, with its artifacts beside the database and not in ./mlruns.
    SqlAlchemyStore(f"sqlite:///{path}", str(path.parent / "artifacts")).engine.dispose()


def experiment_id(client: Any, name: str, *, uri: str, store_path: Path | None) -> str:
    """The id of the experiment called `name`; it is made, or taken out of MLflow's bin, where needed."""
    found = client.get_experiment_by_name(name)
    if found is None:
        location = artifact_location(uri, store_path=store_path)
        return str(client.create_experiment(name, location, tags=EXPERIMENT_TAGS))
    if found.lifecycle_stage != "active":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)
