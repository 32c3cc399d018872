"""What trains a run: the loop, its parts, its objective, its checkpoints."""
