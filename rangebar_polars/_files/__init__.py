"""Files on disk: locks, atomic writes, failpoints, interrupts."""
