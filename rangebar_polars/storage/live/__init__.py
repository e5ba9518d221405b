"""Live days in the tick store: the journals of a symbol, the lock of their writer, and its state."""
