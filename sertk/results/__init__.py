"""Scored runs: their figures, tables and pictures."""
