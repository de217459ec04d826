"""Names and numbers of labels, compared over all records and splits of a folder.

Tools number classes in an order of their own, and some number every split anew: then a number means
one class in one split and another class in the next.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from vjax.data import sequence_example

_EXAMPLES = 5  # named in an error


@dataclass(frozen=True)
class Settled:
  """Labels of a folder, the same in all splits.

  Attributes:
    classes: names in label order, by label space; '' = the main one. A label below the highest one
      that has no name is named by its number.
    renumbered: by split and label space, the label in use of every label of its records, -1 = none.
      Splits whose records have the labels in use are left out.
    notes: sentences for people.
  """

  classes: dict[str, list[str]]
  renumbered: dict[str, dict[str, list[int]]] = field(default_factory=dict)
  notes: list[str] = field(default_factory=list)


class Labels:
  """Collects names and numbers of the labels in a scan. classes: known names of the main label
  space."""

  def __init__(self, classes: Sequence[str]):
    self._known = classes
    self._names: dict[str, dict[str, dict[tuple[int, str], str]]] = {'': {}}
    self._counts: dict[tuple[str, str], Counter] = {}
    self._labelled: Counter = Counter()
    self._unnamed: Counter = Counter()
    self.multi_label = False

  def add(self, split: str, context: dict[str, list], labels: dict[str, list], where: str) -> None:
    """Adds the labels of one record, by label space. Raises ValueError naming the record."""
    for space, indices in labels.items():
      known = self._known and not space
      if known and max(indices, default=0) >= len(self._known):
        raise ValueError(
          f'{where} has label {max(indices)}, but --classes names {len(self._known)} classes, '
          f'labels 0 to {len(self._known) - 1}: the file needs a line for every label, in order. '
          f'Add those up to {max(indices)}, or leave --classes out, so that the records name them'
        )
      texts = [] if known and not _is_text(context, space) else _texts(context, space, where)
      if texts and len(texts) != len(indices):
        if not known:
          raise ValueError(
            f'{where} has {len(indices)} labels and {len(texts)} names ({_key(space)}), so that it '
            'is not certain which name is of which label; write the records again with one name a '
            'label, or pass names by --classes=FILE'
          )
        texts = []
      named = {(i, text): where for i, text in zip(indices, texts) if i >= 0 and text.strip()}
      seen = self._names.setdefault(space, {}).setdefault(split, {})
      seen |= {pair: at for pair, at in named.items() if pair not in seen}
      given = {i for i in indices if i >= 0}  # -1 is a hidden label
      self._labelled[split, space] += bool(given)
      self._unnamed[split, space] += len(named) < len(given)
      self.multi_label |= not space and len(indices) > 1
      self._counts.setdefault((split, space), Counter()).update(indices)

  def settle(self, where: str) -> Settled:
    """Returns the labels of the folder `where`.

    Splits that number the same classes differently are renumbered by name, if every labelled record
    has names. Raises ValueError for names and numbers that contradict each other otherwise, and
    contradict the known classes.
    """
    classes, renumbered, notes = {}, {}, []
    for space, by_split in self._names.items():
      said = f', label space {space!r}' if space else ''
      pairs = {split: list(seen) for split, seen in by_split.items()}
      if clashes := _clashes(pairs):
        maps = self._by_name(space, pairs)
        if not maps:
          raise ValueError(
            f'{where}{said}: names and numbers of labels contradict each other: '
            f'{_some(clashes)}. Write the records again with one list of classes for all splits, '
            'or put splits that number classes in their own way into folders of their own'
          )
        for split, change in maps.items():
          renumbered.setdefault(split, {})[space] = change
          pairs[split] = [(change[i], text) for i, text in pairs[split]]
          changes = [f'{i} to {pair[0]}' for (i, _), pair in zip(by_split[split], pairs[split])]
          notes.append(
            f'careful: {split} numbers classes in another way{said}: its labels are taken by '
            f'their names ({_key(space)}), {_some(sorted(changes), ", ")}'
          )
      classes[space] = self._listed(where, space, pairs, renumbered)
      if self._known and not space:
        notes += self._compare_known(where, pairs)
      notes += self._note_unnamed(space, by_split)
    return Settled(classes, renumbered, notes)

  def counted(self, split: str, space: str, settled: Settled) -> list[int]:
    """Returns the number of clips of each class."""
    counts = self._counts.get((split, space), Counter())
    change = settled.renumbered.get(split, {}).get(space)
    found = Counter()
    for i, count in counts.items():
      found[i if change is None or i < 0 else change[i]] += count
    return [found[i] for i in range(len(settled.classes[space]))]

  def _by_name(self, space: str, pairs: Mapping[str, list]) -> dict[str, list[int]]:
    """Returns the changed labels of the splits that number classes otherwise than the first one
    does; nothing where names do not tell that."""
    if any(self._unnamed[split, space] for split in pairs):
      return {}
    if any(_clashes({split: of}) for split, of in pairs.items()):
      return {}
    key = _comparison(pairs.values())
    plain = {split: {key(text): i for i, text in of} for split, of in pairs.items()}
    whole = set().union(*plain.values())
    first = next((s for s in sorted(plain, key=lambda s: s != 'train') if {*plain[s]} == whole), '')
    changed = {}
    for split, of in pairs.items() if first else ():
      change = [-1] * (max((i for i, _ in of), default=-1) + 1)
      for i, text in of:
        change[i] = plain[first][key(text)]
      if any(change[i] != i for i, _ in of):
        changed[split] = change
    return changed

  def _listed(
    self, where: str, space: str, pairs: Mapping[str, list], renumbered: Mapping[str, Mapping]
  ) -> list[str]:
    if self._known and not space:
      return list(self._known)
    names, numbers = {}, set()
    for split in sorted(pairs, key=lambda split: split != 'train', reverse=True):
      names.update(pairs[split])
      if space not in renumbered.get(split, {}):
        numbers |= {*self._counts.get((split, space), ())}
    if negative := sorted(i for i in numbers if i < 0):
      raise ValueError(
        f'{where}, label space {space!r}: labels {negative} are negative; they must count from 0'
      )
    return [names.get(i, str(i)) for i in range(max({*numbers, *names}, default=-1) + 1)]

  def _compare_known(self, where: str, pairs: Mapping[str, list]) -> list[str]:
    """Returns notes about records whose names are others than the known ones. Raises ValueError
    where both cannot be right."""
    wrong, renamed = compare(self._known, [pair for of in pairs.values() for pair in of])
    if wrong:
      (i, text), *_ = wrong
      split = next(split for split, of in pairs.items() if (i, text) in of)
      raise ValueError(
        f'{where}: --classes contradicts the records: '
        f'{_some([_contradiction(self._known, *pair, "--classes") for pair in wrong])} (a record '
        f'of {split} says so). Leave --classes out, so that the records name the classes, or put '
        'its lines in the order of their numbers'
      )
    examples = [f'{text!r} is {self._known[i]!r}' for i, text in renamed]
    return [f'careful: --classes renames classes: {_some(examples, ", ")}'] if renamed else []

  def _note_unnamed(self, space: str, by_split: Mapping[str, Mapping]) -> list[str]:
    lacking = {s: self._unnamed[s, space] for s in by_split if self._unnamed[s, space]}
    if not lacking or not any(by_split.values()):
      return []
    counts = [f'{n} of {self._labelled[split, space]} in {split}' for split, n in lacking.items()]
    return [
      f'careful: labels without a name ({_key(space)}): {", ".join(counts)} records; their numbers '
      'are taken to mean the same as in the others'
    ]


def compare(
  classes: Sequence[str], pairs: Iterable[tuple[int, str]]
) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
  """Compares names by label with those that records give.

  Args:
    classes: names in label order.
    pairs: labels and their names in the records.

  Returns:
    The pairs that contradict `classes`: the record's name is that of another class, or is unknown
    though other records' names are those of `classes`. And the pairs that `classes` only renames:
    no record's name is one of `classes`.
  """
  pairs = sorted({*pairs})
  key = _comparison([list(enumerate(classes)), pairs])
  plain = [key(name) for name in classes]
  other = [(i, t) for i, t in pairs if not (i < len(plain) and plain[i] == key(t))]
  known = {*plain}
  if any(key(text) in known for _, text in pairs):
    return other, []
  return [], other


def find_names(names: Sequence[str], classes: Sequence[str]) -> list[int]:
  """Returns the label of each name in `classes`; case, underscores and hyphens do not count where
  names differ by more. Raises ValueError for names that are not there."""
  key = _comparison([list(enumerate(classes)), list(enumerate(names))])
  labels = {key(name): i for i, name in enumerate(classes)}
  if lacking := [repr(name) for name in names if key(name) not in labels]:
    raise ValueError(
      f'{len(lacking)} of {len(names)} classes are not there: {_some(lacking, ", ")}'
    )
  return [labels[key(name)] for name in names]


def check_manifest(
  classes: Sequence[str], pairs: Iterable[tuple[int, str]], where: str, rebuild: str
) -> None:
  """Raises ValueError if the names of a manifest contradict those of records."""
  wrong, _ = compare(classes, pairs)
  if wrong:
    raise ValueError(
      f'{where}: the class names in manifest.json contradict those of the records: '
      f'{_some([_contradiction(classes, *pair, "manifest.json") for pair in wrong])}. Delete '
      f'manifest.json and run: {rebuild}'
    )


def _contradiction(classes: Sequence[str], i: int, text: str, source: str) -> str:
  ours = repr(classes[i]) if i < len(classes) else 'nothing'
  return f'label {i} is {text!r} in the records, {ours} in {source}'


def _clashes(pairs: Mapping[str, Iterable[tuple[int, str]]]) -> list[str]:
  """Returns a sentence for every name with two numbers, and every number with two names."""
  key = _comparison(pairs.values())
  numbers: dict[str, dict[int, list[str]]] = {}
  names: dict[int, dict[str, list[str]]] = {}
  for split, of in pairs.items():
    for i, text in sorted(of):
      numbers.setdefault(key(text), {}).setdefault(i, []).append(split)
      names.setdefault(i, {}).setdefault(key(text), []).append(split)
  clashes = [
    f'{name!r} is ' + ' and '.join(f'{i} in {", ".join(where)}' for i, where in found.items())
    for name, found in numbers.items()
    if len(found) > 1
  ]
  clashes += [
    f'label {i} is ' + ' and '.join(f'{n!r} in {", ".join(where)}' for n, where in found.items())
    for i, found in names.items()
    if len(found) > 1
  ]
  return clashes


def _comparison(sets: Iterable[Iterable[tuple[int, str]]]) -> Callable[[str], str]:
  """Returns the function by which names are compared: `_plain`, or the names as they are where that
  would make one of two classes of a set."""
  for of in sets:
    spelled: dict[str, dict[str, int]] = {}
    for i, text in of:
      spelled.setdefault(_plain(text), {}).setdefault(text, i)
    if any(len({*found.values()}) > 1 for found in spelled.values()):
      return str
  return _plain


def _plain(name: str) -> str:
  """Returns a name as it is compared: without case, and spaces for underscores and hyphens."""
  return re.sub(r'[\s_-]+', ' ', name).strip().casefold()


def _some(sentences: Sequence[str], between: str = '; ') -> str:
  more = [f'and {len(sentences) - _EXAMPLES} more'] if len(sentences) > _EXAMPLES else []
  return between.join([*sentences[:_EXAMPLES], *more])


def _key(space: str) -> str:
  return sequence_example.label_key(space, 'text')


def _is_text(context: Mapping[str, list], space: str) -> bool:
  try:
    _texts(context, space, '')
  except ValueError:
    return False
  return True


def _texts(context: Mapping[str, list], space: str, where: str) -> list[str]:
  """Returns the label names that a record gives."""
  try:
    return [text.decode() for text in context.get(_key(space), [])]
  except (AttributeError, UnicodeDecodeError) as e:
    raise ValueError(
      f'{where}: {_key(space)} is {context[_key(space)]!r:.60}, not text in UTF-8; pass names by '
      '--classes'
    ) from e


def named(context: Mapping[str, list], indices: Sequence[int], space: str) -> list[tuple[int, str]]:
  """Returns the labels of a record with their names; nothing where it has no name for each."""
  if not _is_text(context, space):
    return []
  texts = _texts(context, space, '')
  if len(texts) != len(indices):
    return []
  return [(i, text) for i, text in zip(indices, texts) if i >= 0 and text.strip()]
