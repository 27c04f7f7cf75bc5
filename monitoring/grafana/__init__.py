"""The Grafana dashboards, described in Python with the Grafana Foundation SDK."""
