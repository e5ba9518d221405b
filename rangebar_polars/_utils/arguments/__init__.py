"""Arguments of public functions: their names, and the validation that many share."""
