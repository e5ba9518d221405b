"""Read ticks and bars: from the cache where possible, from ticks otherwise."""
