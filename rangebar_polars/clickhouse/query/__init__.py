"""Queries of the bar cache: units, bars and the content of the tables."""
