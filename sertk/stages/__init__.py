"""The stages: (settings, folders) -> files. No argument parsing, no typer."""
