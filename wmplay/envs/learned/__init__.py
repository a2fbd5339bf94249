"""Learned envs: a world model with the interface of an environment."""
