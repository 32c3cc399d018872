"""What a model is made of, how it is built, how it travels."""
