"""Families of models, one file each. A file holds

    Backbone: a vjax.types.Backbone, `backbone(video, train=..., token_mask=None) -> Features`; it
      says what it can: a token grid that masks may hide, an order of layers, frames it is made for
    MODELS: {name: settings of Backbone}, a literal row for every published model; names are unique
      over all files
    HEAD: settings of heads.linear.Head that the family's classifiers have
    CLIP: (frames, side in pixels) of the clips by which `vjax.zoo` measures models without figures

A new file is found by itself (vjax/registry.py).
"""
