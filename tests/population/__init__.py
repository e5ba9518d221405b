"""Proofs that a population loses, duplicates and mixes up nothing, whatever interrupts it."""
