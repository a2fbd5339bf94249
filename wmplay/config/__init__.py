"""Configs: composing them with Hydra, typed settings, plugins, pieces by name."""
