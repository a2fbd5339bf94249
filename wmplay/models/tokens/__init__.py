"""Models of a screen's discrete tokens: a vector-quantised autoencoder, and a transformer over its tokens."""
