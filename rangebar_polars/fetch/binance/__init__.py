"""Aggregate trades of Binance, from its archive and its REST interface."""
