"""Labkeep: one store and one honest lifecycle for experiments and eval runs."""

__version__ = "0.1.0"
