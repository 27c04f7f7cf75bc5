"""Hosts, stacks, containers, and the agents that report them."""
