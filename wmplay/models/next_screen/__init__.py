"""Models of the next screen given the last few frames; they differ in how a screen is drawn."""
