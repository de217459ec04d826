"""Names of splits that are understood in folders, lists, shards and configs alike."""

# Lower-case names, and what data_prep calls the split. Records keep the name that they have.
SPLITS = {
  **dict.fromkeys(('train', 'training'), 'train'),
  **dict.fromkeys(('val', 'valid', 'validation', 'validate', 'dev'), 'val'),
  **dict.fromkeys(('test', 'testing', 'eval'), 'test'),
}
# Those that are evaluated.
HELD_OUT = tuple(name for name, split in SPLITS.items() if split != 'train')
