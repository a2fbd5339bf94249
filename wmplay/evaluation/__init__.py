"""Evaluation: the scores of a policy and of a world model, with intervals and baselines."""
