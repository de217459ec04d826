"""Families of models, one file each. A file holds

    Backbone: a flax module, `backbone(video, train=..., mask=None) -> Features`
    MODELS: {name: settings of Backbone}, a literal row for every published model; names are unique
      over all files
    HEAD: settings of heads.linear.Head that the family's classifiers have
    CLIP: (frames, side in pixels) of the clips by which `vjax.zoo` measures models without figures

and, where layer decay is meant for it, `layer_of(name, depth)`, the group of a parameter. A new
file is found by itself (vjax/registry.py).
"""
