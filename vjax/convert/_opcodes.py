"""Bounds what a pickle unfolds to, before it is unpickled.

A few bytes can repeat a long string a million times, nest tuples so deeply that hashing them ends
the process, or ask the unpickler for a memo of many gigabytes. The opcodes tell, and `pickletools`
lists them without executing any.
"""

import pickletools
from collections.abc import Iterator
from typing import IO, Any

MAX_DEPTH = 100  # of values inside values; Python hashes and prints nested tuples recursively
MAX_GROWTH = 10  # how often a pickle's own length it may unfold to
SLACK = 2**20
# Copies without a reference, the process's own registry, the way out of tuples that contain
# themselves, and ways to call that PyTorch and NumPy do not use.
REFUSED = {'DUP', 'POP', 'EXT1', 'EXT2', 'EXT4', 'INST', 'OBJ', 'NEWOBJ_EX'}
PUTS = {'PUT', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE'}
GETS = {'GET', 'BINGET', 'LONG_BINGET'}
CALLS = {'REDUCE', 'NEWOBJ'}
FILLS = {'APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'ADDITEMS', 'BUILD'}
FRAME_HEADER = 9  # bytes
STRING = next(opcode for opcode in pickletools.opcodes if opcode.name == 'STRING')


def check(stream: IO[bytes], length: int) -> None:
  """Checks the opcodes of one pickle of at most `length` bytes, and leaves the stream behind it.

  Values are counted as [size, depth], on a stack and in a memo like the unpickler's. References and
  calls are charged with the size of what they repeat.

  Raises ValueError or LookupError for what is truncated or no pickle, and ValueError for what
  unfolds to far more than it holds, in size, depth or memo.
  """
  stack, marks, memo = [], [], {}
  unfolded = previous = frame_end = 0
  for count, (opcode, argument, position) in enumerate(_genops(stream)):
    name, before = opcode.name, opcode.stack_before
    if name in REFUSED:
      raise ValueError(f'opcode {name}, which no checkpoint needs')
    # The unpickler drops the rest of such a frame, and would read other opcodes than those here.
    if previous < frame_end < position or (name == 'FRAME' and position < frame_end):
      raise ValueError('a frame ends within an opcode')
    previous = position
    if name == 'FRAME':
      frame_end = position + FRAME_HEADER + argument
    elif name == 'MARK':
      marks.append(len(stack))
    elif name in PUTS:
      index = len(memo) if name == 'MEMOIZE' else argument
      if index > count:
        raise ValueError(f'memo index {index} after {count} opcodes')
      memo[index] = stack[-1]
    elif name in GETS:
      stack.append(memo[argument])
      unfolded += memo[argument][0]
    elif not before:
      stack.extend([_size(argument), 0] for _ in opcode.stack_after)
    else:
      marked = pickletools.markobject in before
      fixed = before.index(pickletools.markobject) if marked else len(before)
      start = (marks.pop() if marked else len(stack)) - fixed
      if start < 0:
        raise ValueError('an empty stack')
      taken = stack[start:]
      del stack[start:]
      if opcode.stack_after:
        value = taken.pop(0) if name in FILLS else [_size(argument), 0]
        value[0] += sum(size for size, _ in taken)
        value[1] = max([value[1], *(depth + 1 for _, depth in taken)])
        stack.append(value)
        unfolded += value[0] if name in CALLS else 0
        if value[1] > MAX_DEPTH:
          raise ValueError(f'more than {MAX_DEPTH} values inside each other')
    if unfolded > MAX_GROWTH * length + SLACK:
      raise ValueError('it unfolds to far more than it holds')


def _genops(stream: IO[bytes]) -> Iterator[tuple[pickletools.OpcodeInfo, Any, int]]:
  """Yields opcodes as pickletools.genops, which reads byte strings of protocol 0 as ASCII only."""
  while True:
    try:
      return (yield from pickletools.genops(stream))
    except UnicodeDecodeError as error:
      if error.encoding != 'ascii':
        raise
      yield STRING, error.object, stream.tell()  # behind the string


def _size(argument: Any) -> int:
  if isinstance(argument, (str, bytes, bytearray)):
    return 1 + len(argument)
  return 1 + argument.bit_length() // 8 if isinstance(argument, int) else 1
