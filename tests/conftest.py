"""All tests see eight simulated CPU devices; public signatures of vjax are shape-checked (production is not)."""

import os

os.environ['XLA_FLAGS'] = os.environ.get('XLA_FLAGS', '') + ' --xla_force_host_platform_device_count=8'
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
os.environ.setdefault('CUDA_VISIBLE_DEVICES', '')

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook(['vjax.models', 'vjax.heads', 'vjax.layers'], 'beartype.beartype')
