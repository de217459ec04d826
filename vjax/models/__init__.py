"""Families of models, one file each. A file holds

    Backbone: a vjax.types.Backbone, `backbone(video, train=..., token_mask=None) -> Features`; its
      optional methods give the token grid for masks, the layer of a parameter, and the frames of
      the clips that the network is for
    MODELS: {name: settings of Backbone}, a literal row for every published model; names are unique
      over all files
    HEAD: settings of heads.linear.Head that the family's classifiers have
    CLIP: (frames, side in pixels) of the clips by which `vjax.zoo` measures models without figures

vjax/registry.py finds a new file without further entries.
"""
