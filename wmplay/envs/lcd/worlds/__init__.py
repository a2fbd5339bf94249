"""LCD worlds as data: their description in Python and YAML, and the built-in ones."""
