"""A bundle applied to audio."""
