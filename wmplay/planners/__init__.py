"""Planners: one method, one file."""
