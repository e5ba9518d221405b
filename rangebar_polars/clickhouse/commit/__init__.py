"""Writing to the bar cache: leases, attempts, generations and publication."""
