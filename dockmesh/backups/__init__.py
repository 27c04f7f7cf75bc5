"""Backup jobs and their runs."""
