"""Writing the fleet. Every transaction that writes a host's rows locks its pulse first.

The order of locks, the same everywhere: pulse, then rows of that host, then `StackSeries` by name, then the
audit log's head.
"""

from dockmesh.fleet.commands import lock_pulse as lock_host
from dockmesh.fleet.services.stacks import (
    add_managed_stack,
    adopt_stack,
    observe_deploy,
    remove_stack,
    set_deploy_state,
)

__all__ = [
    "add_managed_stack",
    "adopt_stack",
    "lock_host",
    "observe_deploy",
    "remove_stack",
    "set_deploy_state",
]
