"""The loop: collect, fit, improve, evaluate, over and over, and what is tried before it."""
