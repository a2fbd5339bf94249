"""Trajectories: simulated by an environment and a policy, predicted by a world model."""
