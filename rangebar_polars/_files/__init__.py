"""Files on disk: locks, atomic writes, failpoints and deferred interrupts."""
