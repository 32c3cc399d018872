"""A corpus on disk: its audio, protocols, folds, audit and cached features."""
