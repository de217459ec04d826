"""What a masked autoencoder predicts of a removed patch: one file each, which exports TARGET."""
