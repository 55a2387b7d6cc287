"""From a recipe and overrides to dataclasses: the one room that knows Hydra."""

from pipeline.config.compose import Composed, compose_recipe, parse_overrides

__all__ = ["Composed", "compose_recipe", "parse_overrides"]
