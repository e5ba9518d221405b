"""Laws of the package, checked against a naive model on generated and real trades."""
