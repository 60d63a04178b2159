"""Verdicts for people and programs: the table and JSON."""
