"""The arbiter: a frozen network for each world that judges how real clips look."""
