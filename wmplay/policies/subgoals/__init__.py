"""Subgoals: observations proposed by a generator, between which a planner or a policy acts."""
