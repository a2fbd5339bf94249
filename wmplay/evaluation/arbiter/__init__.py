"""The arbiter: a frozen network for each world that measures how real clips look."""
