"""A game: the real and the learned world, their timelines, and what a player asks for."""
