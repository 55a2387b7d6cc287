"""Recipes and model shapes, as YAML that Hydra composes; the schemas are dataclasses beside the code they drive."""
