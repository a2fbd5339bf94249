"""A world model as an environment."""
