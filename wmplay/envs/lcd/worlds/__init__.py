"""LCD worlds as data: their description, from Python and YAML, and the built-in ones."""
