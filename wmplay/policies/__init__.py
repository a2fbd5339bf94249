"""Policies: one method, one file; exploration is a wrapper around a policy."""
