"""The schema of a recipe: what its root holds. Composition is in `pipeline.config`."""

from dataclasses import dataclass, field

from pipeline.cluster import ClusterConfig
from pipeline.dag.resources import Resources
from pipeline.dag.stage import Stage, below, refuse_first
from pipeline.errors import ConfigError, close_match
from pipeline.tracking.config import TrackingConfig
from pipeline.tune import TuneConfig


@dataclass
class PipelineConfig:
    """The root of every recipe."""

    stages: dict[str, Stage] = field(default_factory=dict)
    "Node name to its stage; `inputs` of a node name other nodes."
    store: str = ".headrace"
    "Where artifacts live: a folder, or a URL that begins with s3://, gs:// or hdfs://."
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    "Where MLflow remembers runs."
    resources: dict[str, Resources] = field(default_factory=dict)
    "Node name to what it may use; `default` holds for the others."
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    "The Ray cluster."
    tune: TuneConfig = field(default_factory=TuneConfig)
    "The hyperparameter search."

    def resources_of(self, node: str) -> Resources:
        default = self.resources.get("default", Resources())
        return self.resources.get(node, Resources()).over(default)


def check_not_empty(config: PipelineConfig, recipe: str) -> None:
    """Raises ConfigError for a recipe without a node: an empty file, or one without its defaults list."""
    if not config.stages:
        raise ConfigError(
            "the recipe declares no node",
            where=f"recipe={recipe}",
            allowed="at least one node under stages, its stage named in the defaults list",
            do="see docs/tutorial.md for a whole recipe, or start from a copy of quickstart",
        )


def check_resources(config: PipelineConfig) -> None:
    """Find resources of nodes that do not exist, and resources that cannot work for their node.

    Raises:
        ConfigError: the first of them.
    """
    for node, resources in config.resources.items():
        if node not in config.stages and node != "default":
            raise ConfigError(
                f'there is no node "{node}" in this recipe',
                where=f"resources.{node}",
                allowed=", ".join(["default", *config.stages]),
                do=f"{close_match(node, config.stages)}correct the name",
            )
        for name, allowed in resources.out_of_range():
            value = getattr(resources, name)
            where = f"resources.{node}.{name}"
            raise ConfigError(
                f"{name} is {value}", where=where, allowed=allowed, do="set one of these, or null"
            )
    for node, stage in config.stages.items():
        refuse_first(below(f"resources.{node}", stage.resource_problems(config.resources_of(node))))
