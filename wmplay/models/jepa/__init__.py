"""Joint-embedding predictive models (JEPA): latents are predicted, and no observation is decoded."""
