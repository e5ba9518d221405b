"""Maintenance of cached bars: update, upgrade and drop."""
