"""vjax: video-recognition research in JAX."""
