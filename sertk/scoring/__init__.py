"""A bundle applied to audio, and how the audio is found."""
