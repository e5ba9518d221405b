"""The files of the store: encoding, atomic placement, and the lock of a writer."""
