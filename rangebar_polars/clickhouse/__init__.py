"""Bars stored in ClickHouse: in an embedded folder by default, or on a server.

From bottom to top: `connection` connects to the database, `schema` creates and checks the tables,
`open` opens the cache, `query` reads visible units and bars, and `commit` publishes units under
leases. `gc` and `drop` remove rows, `shared` holds the cache open across a long job, and `cache` is
the public module.
"""
