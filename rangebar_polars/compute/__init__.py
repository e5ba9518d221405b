"""Computation of bars from trades: expressions, frames, plans and the builder."""
