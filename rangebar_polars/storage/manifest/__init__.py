"""Manifests: the record of what the store holds of each day of a month."""
