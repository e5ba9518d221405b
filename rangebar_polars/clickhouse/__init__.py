"""Bars kept in ClickHouse: an embedded folder by default, a server by its address.

`connection` reaches the database, `schema` makes the tables, `commit` writes units under leases,
and `query` reads what is visible. `open` opens the cache; `cache` is the name for users.
"""
