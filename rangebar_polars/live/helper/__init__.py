"""The process that opens the bar cache for live bars, and the client that asks it."""
