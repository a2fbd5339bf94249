"""Vector environments step by step: their frames, their answers, autoreset, and episodes written down."""
