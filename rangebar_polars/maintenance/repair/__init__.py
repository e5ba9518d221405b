"""Find what is missing, stale, damaged or different in a store and its cache, and repair it."""
