"""Tiny exact worlds: their dynamics fit on a page, and their best return is computed, not estimated."""
