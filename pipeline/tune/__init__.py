"""Hyperparameter search: trials are runs of the same recipe with other values, on one Ray cluster."""

from pipeline.tune.config import Mode, Scheduler, TuneConfig

__all__ = ["Mode", "Scheduler", "TuneConfig"]
