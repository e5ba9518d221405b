"""Read bars and ticks: from the cache and the tick store, and computed or fetched where they are missing."""
