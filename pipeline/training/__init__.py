"""Training: one loop on a DeepSpeed engine, run by Ray Train on any number of ranks."""
