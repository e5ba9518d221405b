"""What a stored series of bars is: identity, segments, units and selection. No database, no network."""
