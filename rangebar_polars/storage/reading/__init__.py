"""Reads of a span: the plan of its files, and their ticks."""
