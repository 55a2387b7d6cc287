"""Recipes: each file declares a whole DAG."""
