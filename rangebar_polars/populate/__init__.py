"""Population: bars computed from ticks and published to the cache."""
