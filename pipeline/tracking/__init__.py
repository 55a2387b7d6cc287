"""What MLflow remembers of a run, recorded through a spool on disk so that MLflow never holds up the work."""
