"""Recipes: a method, its nets and its training as one small YAML file."""
