"""Building blocks with two or more users; they take sizes, never a config."""
