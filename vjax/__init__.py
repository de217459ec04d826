"""vjax: video-recognition research in JAX."""

import os

# TensorFlow only reads records here; without this every start prints what its CPU could do.
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')
