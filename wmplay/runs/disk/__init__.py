"""A run on disk: its directory, checkpoints, metrics, and a run as one portable folder."""
