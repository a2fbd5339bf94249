"""Screens, clips and episodes as images."""
