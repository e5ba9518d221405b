"""Trades of Binance: archives and REST."""
