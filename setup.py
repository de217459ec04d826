"""Installs vjax; dependencies are ranges that resolve on Python 3.11 to 3.13 (see README,
"Versions")."""

from setuptools import find_packages, setup

# Linux x86_64 has a wheel without GPU code, half the size; input pipelines need no more.
TENSORFLOW = [
  'tensorflow-cpu>=2.20,<2.22; sys_platform == "linux" and platform_machine == "x86_64"',
  'tensorflow>=2.20,<2.22; sys_platform != "linux" or platform_machine != "x86_64"',
]
DATA = [  # data_prep/: video files to records, on one machine or a Beam cluster
  'apache-beam>=2.77,<3',
]
CLOUD = [  # gs:// and s3:// for data and checkpoints
  'gcsfs>=2024.6',
  's3fs>=2024.6',
  'obstore>=0.8',  # reads of s3:// at a third of s3fs' processor time
]
TEST = [
  'beartype>=0.20',
  'gcp-storage-emulator>=2024.8',
  'hypothesis>=6.100',
  'ipykernel>=6.29',
  'moto[server]>=5.1',
  'nbclient>=0.10',
  'nbformat>=5.10',
  'pytest>=8.3',
  'pytest-timeout>=2.3',
  'pytest-xdist>=3.6',  # the suite on all cores
  'pyyaml>=6',  # manifests in docs
  'ruff>=0.9',
  'basedpyright==1.40.*',  # its wheel brings all that it needs
]

setup(
  name='vjax',
  version='0.1.0',
  description='Video-recognition research in JAX: five landmark papers from one plain codebase',
  license='Apache-2.0',
  python_requires='>=3.11,<3.14',
  packages=find_packages(
    include=['vjax', 'vjax.*', 'data_prep', 'data_prep.*', 'configs', 'configs.*']
  ),
  package_data={'vjax': ['py.typed'], 'vjax.analysis': ['*.csv']},
  install_requires=[
    'absl-py>=2.1',
    # 19 lost metadata_errors; predict reads a user's file; data_prep reads a dataset's
    'av>=18,<19',
    'clu>=0.0.12',  # the interface that vjax.event_writer has
    'etils[epath]>=1.9',  # records by range from local folders and object stores
    'flax>=0.12,<0.13',
    'google-crc32c>=1.5',  # checksums of records
    'importlib-resources>=6',  # tensorflow-datasets needs it to prepare a set and does not say so
    'jax>=0.10,<0.13',
    'jaxtyping>=0.3',  # shapes in signatures; checked in tests only
    'matplotlib>=3.9',
    'ml-collections>=1.0',
    'numpy>=2.0',
    'opencv-python-headless>=4.11',  # resizing and RandAugment of frames
    'optax>=0.2.5',
    'orbax-checkpoint==0.12.*',
    'pillow>=10',  # bicubic resizing of frames
    'safetensors>=0.5',
    'scipy>=1.13',
    'simplejpeg>=1.8',  # frames decoded to where they are to be, and encoded
    'tensorboard>=2.20',  # its protocol buffers and files of events
    'tensorflow-datasets>=4.9.8',
    'tqdm>=4.66',
    *TENSORFLOW,
  ],
  extras_require={
    'cuda': ['jax[cuda13]'],
    'tpu': ['jax[tpu]'],
    'bench': [
      'torch>=2.5',
      'torchvision',
      'pytorchvideo>=0.1.5',
    ],  # benchmarks/against_torch.py and its peers
    'data': DATA,
    'cloud': CLOUD,
    'test': TEST + DATA + CLOUD,
  },
)
