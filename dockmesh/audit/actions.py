"""Every action that the audit log knows; also the values of the label `action` on /metrics."""

from enum import StrEnum


class Action(StrEnum):
    """`<target>.<what happened>`."""

    USER_SIGNED_IN = "user.signed_in"
    USER_SIGN_IN_FAILED = "user.sign_in_failed"
    USER_SIGNED_OUT = "user.signed_out"
    USER_CREATED = "user.created"
    USER_CHANGED = "user.changed"
    USER_DISABLED = "user.disabled"
    USER_ENABLED = "user.enabled"
    USER_PASSWORD_CHANGED = "user.password_changed"
    PERMISSION_REFUSED = "permission.refused"
    TOKEN_CREATED = "token.created"
    TOKEN_CHANGED = "token.changed"
    TOKEN_ROTATED = "token.rotated"
    TOKEN_REVOKED = "token.revoked"
    TOKEN_DELETED = "token.deleted"
    ROLE_CREATED = "role.created"
    ROLE_CHANGED = "role.changed"
    ROLE_DELETED = "role.deleted"
    ENROLLMENT_TOKEN_CREATED = "enrollment_token.created"
    ENROLLMENT_TOKEN_DELETED = "enrollment_token.deleted"
    HOST_ENROLLED = "host.enrolled"
    HOST_REENROLLED = "host.reenrolled"
    HOST_CHANGED = "host.changed"
    HOST_REMOVED = "host.removed"
    AGENT_UPDATE_REQUESTED = "agent.update_requested"
    AGENT_UPDATE_SUCCEEDED = "agent.update_succeeded"
    AGENT_UPDATE_FAILED = "agent.update_failed"
    CONTAINER_ACTION_REQUESTED = "container.action_requested"
    CONTAINER_ACTION_SUCCEEDED = "container.action_succeeded"
    CONTAINER_ACTION_FAILED = "container.action_failed"
    CONTAINER_LOGS_READ = "container.logs_read"
    STACK_CREATED = "stack.created"
    STACK_CHANGED = "stack.changed"
    STACK_SURVEYED = "stack.surveyed"
    STACK_ADOPTED = "stack.adopted"
    STACK_REMOVED = "stack.removed"
    DEPLOY_REQUESTED = "deploy.requested"
    DEPLOY_SUCCEEDED = "deploy.succeeded"
    DEPLOY_FAILED = "deploy.failed"
    DEPLOY_CANCELLED = "deploy.cancelled"
    BACKUP_JOB_CREATED = "backup_job.created"
    BACKUP_JOB_CHANGED = "backup_job.changed"
    BACKUP_JOB_REMOVED = "backup_job.removed"
    BACKUP_REQUESTED = "backup.requested"
    BACKUP_SUCCEEDED = "backup.succeeded"
    BACKUP_PARTIAL = "backup.partial"
    BACKUP_FAILED = "backup.failed"
    BACKUP_CANCELLED = "backup.cancelled"
    ALERT_RULE_CREATED = "alert_rule.created"
    ALERT_RULE_CHANGED = "alert_rule.changed"
    ALERT_RULE_REMOVED = "alert_rule.removed"
    ALERT_FIRED = "alert.fired"
    ALERT_RESOLVED = "alert.resolved"
    CHANNEL_CREATED = "channel.created"
    CHANNEL_CHANGED = "channel.changed"
    CHANNEL_REMOVED = "channel.removed"
    CHANNEL_TESTED = "channel.tested"
    SILENCE_CREATED = "silence.created"
    SILENCE_ENDED = "silence.ended"
    AUDIT_PRUNED = "audit.pruned"
    AUDIT_ACCEPTED = "audit.accepted"


# What happens whether or not it can be written: refusing it would blind or stop what dockmesh looks after, or keep
# everybody from the pages that say what is wrong.
TOLD_ONLY = frozenset(
    {
        Action.USER_SIGNED_IN,
        Action.USER_SIGN_IN_FAILED,
        Action.USER_SIGNED_OUT,
        Action.PERMISSION_REFUSED,
        Action.AGENT_UPDATE_SUCCEEDED,
        Action.AGENT_UPDATE_FAILED,
        Action.CONTAINER_ACTION_SUCCEEDED,
        Action.CONTAINER_ACTION_FAILED,
        Action.STACK_SURVEYED,
        Action.DEPLOY_SUCCEEDED,
        Action.DEPLOY_FAILED,
        Action.BACKUP_SUCCEEDED,
        Action.BACKUP_PARTIAL,
        Action.BACKUP_FAILED,
        Action.ALERT_FIRED,
        Action.ALERT_RESOLVED,
    }
)
# What the system does by itself of what others are refused.
BY_ITSELF = frozenset({Action.BACKUP_REQUESTED, Action.ALERT_RULE_CREATED})

ACTOR_KINDS = ("user", "token", "agent", "system")
TARGET_KINDS = (
    "alert",
    "alert_rule",
    "backup_job",
    "channel",
    "container",
    "enrollment_token",
    "host",
    "permission",
    "role",
    "silence",
    "stack",
    "token",
    "user",
)
