"""Reads of a span: planning its files, and reading their ticks."""
