"""The files of the store: their encoding, how they get their names, the lock of a writer."""
