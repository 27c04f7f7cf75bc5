"""Runs dockmesh on one machine: the HTTP server, its processes, and how they start and stop."""
