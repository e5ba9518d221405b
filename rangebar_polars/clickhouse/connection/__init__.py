"""The connection to ClickHouse: address, driver, client, pool and retries."""
