"""Queries over stored units and bars."""
