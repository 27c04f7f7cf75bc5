"""How fast /metrics and the heartbeats are, side by side with their peers: `python -m tests.bench`."""
