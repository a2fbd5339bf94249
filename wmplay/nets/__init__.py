"""Building blocks of networks that two or more families of pieces use; they take sizes, never a config."""
