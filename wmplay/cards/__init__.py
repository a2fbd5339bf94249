"""Exported runs with a card: what a run is, how well it does, and the command that verifies the numbers."""
