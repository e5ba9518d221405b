"""Stored days: reading, merging and writing their files, and quarantine."""
