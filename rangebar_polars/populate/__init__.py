"""The steps from sources to bars, kept going until all that can be had is there."""
