"""From trades to bars: expressions, frames, plans and the builder."""
