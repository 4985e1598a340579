"""What became of a model: served features and scores beside its training snapshot, labels beside its predictions."""
