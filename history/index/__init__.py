"""The index of the archive by owner: one entity's events and one item's commits, read without reading everything else."""
