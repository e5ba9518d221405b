"""From a source to the tick store."""
