"""Findings of a study besides its comparisons: claims, checkpoints, rankings of policies."""
