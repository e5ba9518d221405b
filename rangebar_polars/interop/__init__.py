"""Conversion of trades and bars from and to other libraries."""
