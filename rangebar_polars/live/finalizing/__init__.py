"""Days that close: their bars become units, and series are computed again where archives differ."""
