"""Fetching of ticks from their sources into the tick store."""
