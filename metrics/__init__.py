"""The exposition: /metrics and what feeds it."""
