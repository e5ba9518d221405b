"""Quotes of Exness, from its monthly archive."""
