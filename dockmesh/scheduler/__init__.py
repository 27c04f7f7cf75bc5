"""Runs the periodic jobs that rooms register in `dockmesh.core.schedule`, once in the whole installation."""
