"""The DAG core: stages, identity, store, graph, plan, runner. It knows nothing of text or models."""
