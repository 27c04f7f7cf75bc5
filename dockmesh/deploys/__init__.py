"""Deploys of stacks."""
