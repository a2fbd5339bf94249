"""Screens, clips and episodes as pictures."""
