"""Targets of a masked autoencoder, which it predicts of a removed patch: one file each, which
exports TARGET."""
