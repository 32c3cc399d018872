"""A recipe: what is due, and its running."""
