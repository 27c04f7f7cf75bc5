"""What agents say in their heartbeats: read, judged, written."""
