"""The command line. Only this package imports typer, and nothing heavier before a command runs."""

from __future__ import annotations

from sertk.cli.app import app


def main() -> None:
    """The `sertk` command."""
    app(prog_name="sertk")
