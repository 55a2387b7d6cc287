"""Where MLflow keeps runs: the recipe's `tracking` section."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ConfigError

FOLDER = "mlflow"
"The store's folder for the tracking database and its artifacts."


@dataclass
class TrackingConfig:
    """Where and under which name runs are remembered. Circumstance: no part of any fingerprint."""

    uri: str | None = None
    "MLflow tracking URI: http(s)://…, sqlite:///…, postgresql://…. None: an SQLite file in a local store."
    experiment: str = "headrace"
    "Name of the MLflow experiment; made when it does not exist."
    registry_uri: str | None = None
    "MLflow model registry URI. None: the tracking URI."


def tracking_uri(config: TrackingConfig, *, store_path: Path | None) -> str:
    """The tracking URI in words MLflow takes.

    Args:
        config: the recipe's section.
        store_path: the store's folder on this machine, or None when the store is remote.

    Raises:
        ConfigError: no URI is set and a remote store leaves no place for an SQLite file.
    """
    if config.uri:
        return config.uri
    if store_path is None:
        raise ConfigError(
            "runs have no place to be remembered: the store is remote and no tracking URI is set",
            where="tracking.uri",
            allowed="an MLflow tracking URI, such as http://HOST:PORT, sqlite:////PATH/mlflow.db or postgresql://…",
            do="set tracking.uri, for instance tracking.uri=sqlite:////home/me/mlflow.db",
        )
    return f"sqlite:///{store_path.absolute() / FOLDER / 'mlflow.db'}"


def spool_folder(store_url: str) -> Path:
    """Where this machine keeps records on their way to MLflow: in a local store, else in the user's state folder."""
    if "://" not in store_url:
        return Path(store_url).absolute() / FOLDER / "spool"
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return state / "headrace" / hashlib.sha256(store_url.encode()).hexdigest()[:16]


def sqlite_path(uri: str) -> Path | None:
    """The database file of a `sqlite:///` URI, or None for any other URI."""
    prefix = "sqlite:///"
    return Path(uri.removeprefix(prefix)) if uri.startswith(prefix) else None


def artifact_location(uri: str, *, store_path: Path | None) -> str | None:
    """Where a new experiment keeps its artifacts; None leaves the choice to the tracking server."""
    if uri.startswith(("http://", "https://", "databricks")):
        return None
    database = sqlite_path(uri)
    if database is not None:
        return str(database.absolute().parent / "artifacts")
    return None if store_path is None else str(store_path.absolute() / FOLDER / "artifacts")
