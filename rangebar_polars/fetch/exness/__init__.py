"""Quotes of Exness: monthly archives."""
