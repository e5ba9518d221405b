"""Failed requests: their cause in plain words, and a line while a source does not answer."""
