"""`register`: an exported model in MLflow's model registry, loadable by `mlflow.pyfunc.load_model`."""

import importlib.metadata
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pipeline.dag.folder import Folder
from pipeline.dag.stage import Problem, Stage, StageContext, StageResult, circumstance, port
from pipeline.errors import ConfigError
from pipeline.tracking.server import experiment_id, open_client

DIGEST_TAG = "headrace.export_digest"
WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
"How the names of classes of transformers end that generate."
REQUIRED = ("mlflow", "torch", "transformers", "pandas")


@dataclass
class Register(Stage):
    """Registers an export under a name. The same export is the same version, however often it is registered.

    MLflow keeps its own copy of the weights, so that the registry outlives the store. The artifact is a JSON file
    with the model's name, version and URI.
    """

    name: ClassVar[str] = "register"
    produces: ClassVar[str] = "registration"

    @dataclass
    class Inputs:
        model: str = port("export")
        "The exported model."

    inputs: Inputs = field(default_factory=Inputs)
    model_name: str = "headrace"
    "Name of the registered model in MLflow; no slash, colon or quote."
    description: str = ""
    "What MLflow's page says of the version, in Markdown."
    experiment: str = circumstance("headrace")
    "Name of the MLflow experiment that the model's files are kept under."

    def problems(self) -> list[Problem]:
        if self.model_name and not set("/:'\"") & set(self.model_name):
            return []
        allowed = "a name without slash, colon or quote"
        return [
            Problem("model_name", f'"{self.model_name}" cannot name a model', allowed, "choose another name")
        ]

    def run(self, context: StageContext) -> StageResult:
        model = context.one("model")
        _require_writer(model.folder, node=context.node)
        tags = {
            DIGEST_TAG: model.manifest.part_digest(model.part),
            "headrace.fingerprint": context.key,
            "headrace.export": model.folder.url,
            **{f"headrace.from.{node}": key for node, key in context.lineage.items()},
        }
        item = (self, model.folder, context.tracking_uri, context.registry_uri, tags)
        (version,) = context.map(register_export, {"model": item}, unit="models").values()
        context.output.write_json("registration.json", version)
        return StageResult({"models": 1}, {})


def _require_writer(export: Folder, *, node: str) -> None:
    """Raises ConfigError where the export writes no text: the registered model continues prompts or answers sources."""
    own = not export.exists("config.json")
    kinds = [] if own else export.read_json("config.json").get("architectures", [])
    if any(kind.endswith(WRITERS) for kind in kinds):
        return
    raise ConfigError(
        f"a {', '.join(kinds) or 'model of our own format'} writes no text, and the registry serves models that do",
        where=f"stages.{node}.inputs.model",
        allowed="an export that AutoModelForCausalLM or AutoModelForSeq2SeqLM loads",
        do="register a decoder or an encoder-decoder, or log the export's folder with MLflow by hand",
    )


def register_export(
    settings: Register, export: Folder, uri: str, registry_uri: str, tags: dict[str, str]
) -> dict[str, Any]:
    """In the worker: find the version of this export, or make it; its name, version and URI."""
    client = open_client(uri, registry_uri=registry_uri)
    found = find_version(client, settings.model_name, tags[DIGEST_TAG])
    if found is None:
        found = _create_version(client, settings, export, uri, tags)
    version = str(found.version)
    return {
        "name": settings.model_name,
        "version": version,
        "uri": f"models:/{settings.model_name}/{version}",
        "export_digest": tags[DIGEST_TAG],
    }


def find_version(client: Any, name: str, digest: str) -> Any:
    """The registered version of an export, by the digest of its content, or None."""
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(DIGEST_TAG) == digest and version.status == "READY":
            return version
    return None


def _create_version(client: Any, settings: Register, export: Folder, uri: str, tags: dict[str, str]) -> Any:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(settings.model_name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    logged = _log_model(settings, export.local(), uri, tags)
    # The tags come with the version in one call: a version without its digest would be registered again.
    return client.create_model_version(
        settings.model_name,
        source=logged.model_uri,
        run_id=logged.run_id,
        model_id=logged.model_id,
        tags=tags,
        description=settings.description or None,
    )


def _log_model(settings: Register, folder: Path, uri: str, tags: dict[str, str]) -> Any:
    """Copy the export, and the code that runs it, into MLflow (whose globals are this worker's alone)."""
    import mlflow
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema

    mlflow.set_tracking_uri(uri)
    experiment = experiment_id(mlflow.MlflowClient(uri), settings.experiment, uri=uri, store_path=None)
    mlflow.set_experiment(experiment_id=experiment)
    params = ParamSchema(
        [
            ParamSpec("max_new_tokens", "integer", 64),
            ParamSpec("temperature", "double", 0.0),
            ParamSpec("top_k", "integer", 0),
            ParamSpec("top_p", "double", 1.0),
            ParamSpec("min_p", "double", 0.0),
            ParamSpec("repetition_penalty", "double", 1.0),
            ParamSpec("num_beams", "integer", 1),
            ParamSpec("length_penalty", "double", 1.0),
            ParamSpec("stop", "string", ""),
            ParamSpec("seed", "integer", 0),
        ]
    )
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # about input examples and type hints, which the signature makes needless
        return mlflow.pyfunc.log_model(
            name=settings.model_name,
            python_model=str(Path(__file__).parents[1] / "serving" / "pyfunc.py"),
            artifacts={"export": str(folder)},
            signature=ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")]), params),
            pip_requirements=requirements(),  # given: to guess them MLflow would run the model in a subprocess
            tags=tags,
            metadata=tags,
        )


def requirements() -> list[str]:
    """What loading the model needs, pinned to what is installed here, without local build tags such as +cpu."""
    versions = {name: importlib.metadata.version(name).partition("+")[0] for name in REQUIRED}
    return [f"{name}=={version}" for name, version in versions.items()]
