"""What happened: entries, their chain, a durable count for each action."""
