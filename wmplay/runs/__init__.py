"""A run on disk: its directory, checkpoints, weights and pieces; loading, going on, exporting."""
