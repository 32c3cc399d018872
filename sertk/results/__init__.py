"""Scored runs: finding them, their metrics, tables and figures."""
