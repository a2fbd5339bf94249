"""The loop: collect, fit, improve, evaluate, repeatedly, and the rehearsal before it."""
