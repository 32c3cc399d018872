"""What a user sees of long work."""
