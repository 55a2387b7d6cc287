"""The same verb as a job on a Ray cluster: the code and the recipe go along, the log and the exit code come back."""
