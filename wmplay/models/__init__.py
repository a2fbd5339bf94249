"""World models: one paper, one file."""
