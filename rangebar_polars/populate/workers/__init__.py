"""Compute and deliver the units of a population, in this process or in others."""
