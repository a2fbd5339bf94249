"""A learned world in the browser, next to the real one and under the same actions."""
