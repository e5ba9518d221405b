"""Jobs of a population, and the ways to run and publish them."""
