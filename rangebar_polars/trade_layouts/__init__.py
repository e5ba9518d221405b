"""Layouts of public trade files, and which of them a file has."""
