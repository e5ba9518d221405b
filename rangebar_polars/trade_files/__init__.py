"""Trades of the public dumps of exchanges and data vendors, as lazy frames."""
