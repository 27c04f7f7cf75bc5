"""Writing the fleet. Every transaction that writes a host's rows locks its heartbeat state first.

The order of locks, the same everywhere: heartbeat states by host id, then rows of those hosts, then `StackSeries` by name,
then the audit log's head.
"""

from dockmesh.fleet.commands import lock_host
from dockmesh.fleet.services.enrollment import (
    Issued,
    authenticate_enrollment,
    create_enrollment_token,
    delete_enrollment_token,
    enroll,
    forget_expired_enrollment_tokens,
    note_reached,
)
from dockmesh.fleet.services.hosts import change_host, remove_host
from dockmesh.fleet.services.stacks import (
    add_managed_stack,
    adopt_stack,
    lock_stack,
    observe_deploy,
    remove_stack,
    set_deploy_state,
)

__all__ = [
    "Issued",
    "add_managed_stack",
    "adopt_stack",
    "authenticate_enrollment",
    "change_host",
    "create_enrollment_token",
    "delete_enrollment_token",
    "enroll",
    "forget_expired_enrollment_tokens",
    "lock_host",
    "lock_stack",
    "note_reached",
    "observe_deploy",
    "remove_host",
    "remove_stack",
    "set_deploy_state",
]
