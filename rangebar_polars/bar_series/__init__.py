"""Stored series of bars: identity, segments, units and selection. No database, no network."""
