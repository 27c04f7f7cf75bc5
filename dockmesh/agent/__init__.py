"""The program on each Docker host. It stands alone: the standard library and the Docker SDK, no Django."""

VERSION = "0.1.0"
PROTOCOL = 1
