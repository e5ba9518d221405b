"""From bars to the forms that other libraries take."""
