"""Bars kept in ClickHouse: an embedded folder by default, a server by its address.

From the bottom up: `series` says what a stored bar belongs to, `stored` what a row is, `ddl` the
tables, `client` the connection, `leases` who may write, `write` how units are published, and
`units` what of it is visible.
"""
