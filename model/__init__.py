"""Language models in PyTorch: one file per architecture, and what trains, samples, stores and exports them.

Importing this package, or `model.config`, imports no torch: the command line composes a recipe without it.
"""
