"""What MLflow remembers of a run, recorded through a spool on disk so that MLflow never holds up the work."""

from pipeline.tracking.config import TrackingConfig, tracking_uri
from pipeline.tracking.tracker import Tracker

__all__ = ["Tracker", "TrackingConfig", "tracking_uri"]
