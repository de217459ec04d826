"""Analyses of finished results, without training: one file each."""
