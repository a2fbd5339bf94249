"""The models of boxLCD (Wilson 2021): transformers over frames, or over learned symbols of frames."""
