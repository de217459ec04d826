"""Files that are no weights, known by their first bytes: web pages, Git LFS pointers, cut
downloads."""

import json
import os
import re
import string
import zipfile

HEAD_BYTES = 4096
ARCHIVES = {
  b'\x1f\x8b': 'gzip', b'BZh': 'bzip2', b'\xfd7zXZ': 'xz', b'7z\xbc\xaf': '7z', b'Rar!': 'rar',
}  # fmt: skip
OTHERS = {
  b'\x89HDF': 'HDF5, as Keras writes it', b'%PDF': 'PDF', b'\x89PNG': 'PNG',
  b'\xff\xd8\xff': 'JPEG', b'GGUF': 'GGUF', b'\x93NUMPY': 'a single NumPy array (.npy)',
}  # fmt: skip
_PRINTABLE = set(string.printable.encode())


def check(path: str) -> None:
  """Raises ValueError that says what a file is and what to do, where it is certainly no weights."""
  size = os.path.getsize(path)
  with open(path, 'rb') as file:
    head = file.read(HEAD_BYTES)
  text = head.lstrip(b'\xef\xbb\xbf \t\r\n')
  if not size:
    raise ValueError(f'{path} is damaged: it is empty (0 bytes); download it again')
  if text.startswith(b'version https://git-lfs'):
    stated = re.search(rb'\nsize (\d+)', text)
    wanted = f' of the {int(stated[1]):,} bytes' if stated else ''
    raise ValueError(
      f'{path} is a Git LFS pointer ({size} bytes) in place{wanted} of weights: run `git lfs pull` '
      'in the repository it is from, or download the file itself'
    )
  if re.match(rb'<(!doctype|html|head|\?xml|svg)', text, re.IGNORECASE):
    raise ValueError(
      f'{path} is a web page{_title(text)} ({size:,} bytes), not weights: open its address in a '
      'browser, see what the server asks for (a confirmation, an account, another day), and '
      'download the file itself'
    )
  if text[:1] in (b'{', b'[') and _is_text(head):
    raise ValueError(f'{path} is JSON, not weights: {_of_json(path)}')
  for magic, kind in ARCHIVES.items():
    if head.startswith(magic):
      raise ValueError(f'{path} is a {kind} archive: unpack it and give the file of weights within')
  if head[257:262] == b'ustar':
    raise ValueError(
      f'{path} is a tar archive: unpack it and give the file of weights within; if it is of '
      'PyTorch before 0.2, load it with PyTorch and save its state dict anew'
    )
  for magic, kind in OTHERS.items():
    if head.startswith(magic):
      raise ValueError(
        f'{path} is {kind}; need a file of PyTorch or Caffe2 (.pth, .pyth, .pt, .pkl), '
        '.safetensors or .npz'
      )
  if head.startswith(b'PK\x03\x04') and not zipfile.is_zipfile(path):
    raise ValueError(
      f'{path} is damaged: a zip archive, as PyTorch and NumPy write, that ends after {size:,} '
      'bytes without its list of entries: compare the size with that of the original, and download '
      'it again'
    )


def is_safetensors(path: str) -> bool:
  """Returns whether a file begins as .safetensors do: the length of a JSON header, and the
  header."""
  with open(path, 'rb') as file:
    head = file.read(9)
  return head[8:9] == b'{' and int.from_bytes(head[:8], 'little') < os.path.getsize(path)


def as_text(path: str) -> str:
  """Returns the first words of a file of text, quoted; '' for one of anything else."""
  with open(path, 'rb') as file:
    head = file.read(HEAD_BYTES)
  return repr(head[:60].decode()) if head and _is_text(head) else ''


def _is_text(head: bytes) -> bool:
  return set(head) <= _PRINTABLE


def _title(text: bytes) -> str:
  found = re.search(rb'<title>([^<]{1,80})', text, re.IGNORECASE)
  return f' ({found[1].decode(errors="replace").strip()!r})' if found else ''


def _of_json(path: str) -> str:
  """Returns the remedy for a JSON file; an index of weights in several files names them."""
  try:
    with open(path, encoding='utf-8-sig') as file:
      index = json.load(file)['weight_map']
    return f'an index of {", ".join(sorted(set(index.values()))[:5])}; join them into one file'
  except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return 'a config or a message of the server; the weights are another file'
