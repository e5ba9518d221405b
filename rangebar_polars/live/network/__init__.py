"""Connections to streams and to REST, and which of them to trust."""
