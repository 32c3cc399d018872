"""Recipes: which steps must be done, and doing them."""
