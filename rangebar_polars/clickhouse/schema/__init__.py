"""The tables of the bar cache and their migration."""
