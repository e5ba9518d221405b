"""Proofs that nothing of a population is lost, twice there, or mixed up, whatever happens to it."""
