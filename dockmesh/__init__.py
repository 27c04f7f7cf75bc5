"""dockmesh: every Docker host, stack and container, as Prometheus metrics."""

__version__ = "0.1.0"
