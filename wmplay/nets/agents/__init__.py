"""Parts of agents that learn values and policies, shared by their families."""
