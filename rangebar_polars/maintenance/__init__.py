"""Upkeep of stored bars: update and drop."""
