"""Models of video, and the families of "Models, Pixels, and Rewards" (Babaeizadeh et al. 2020, arXiv
2012.04603)."""
