"""The agent: the program on each Docker host. Stands alone."""
