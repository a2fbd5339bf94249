"""The models of boxLCD (Wilson 2021): transformers over frames, alone and on learned symbols."""
