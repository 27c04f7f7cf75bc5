"""Every ``dockmesh_`` family, in the order of the page. Frozen: a rename breaks somebody's dashboard."""

from dockmesh.fleet.states import ContainerState, HostStatus, StackState
from metrics.exposition import Family
from metrics.groups import Group

HOSTS = Family("dockmesh_hosts_total", "gauge", "Hosts by status.", ("status",))
STACKS = Family("dockmesh_stacks_total", "gauge", "Stacks by host and state.", ("host", "state"))
CONTAINERS = Family("dockmesh_containers_total", "gauge", "Containers by host and state.", ("host", "state"))
LAST_SEEN = Family(
    "dockmesh_agent_last_seen_seconds",
    "gauge",
    "Time since the agent's last heartbeat, in seconds.",
    ("host",),
)
DEPLOY_DURATION = Family(
    "dockmesh_deploy_duration_seconds", "histogram", "Durations of deploys, in seconds.", ("stack", "result")
)
BACKUP_LAST_RUN = Family(
    "dockmesh_backup_last_run_timestamp",
    "gauge",
    "Unix time of the backup job's last successful run; 0 if it never succeeded.",
    ("job",),
)
BACKUP_LAST_DURATION = Family(
    "dockmesh_backup_last_duration_seconds",
    "gauge",
    "Duration of the backup job's last finished run, in seconds.",
    ("job",),
)
API_REQUESTS = Family(
    "dockmesh_api_requests_total", "counter", "Requests to the HTTP API.", ("method", "path", "status")
)
AUDIT_ENTRIES = Family(
    "dockmesh_audit_log_entries_total", "counter", "Entries written to the audit log.", ("action",)
)
ALERTS_FIRED = Family(
    "dockmesh_alerts_fired_total", "counter", "Transitions of alerts to firing.", ("severity", "rule")
)
AGENT_RTT = Family(
    "dockmesh_agent_rtt_seconds",
    "histogram",
    "Round-trip times of the agent protocol, in seconds.",
    ("host",),
)

BUILD_INFO = Family(
    "dockmesh_build_info",
    "gauge",
    "Always 1; the labels tell what is running.",
    ("version", "python", "django"),
)
HOST_INFO = Family(
    "dockmesh_host_info",
    "gauge",
    "Always 1; the labels tell what the host is.",
    ("host", "agent_version", "docker_version", "os", "arch", "kernel"),
)
CLOCK_SKEW = Family(
    "dockmesh_host_clock_skew_seconds",
    "gauge",
    "How far the host's clock was ahead of the server's at its last heartbeat, in seconds.",
    ("host",),
)
AUTH_ENABLED = Family(
    "dockmesh_metrics_auth_enabled", "gauge", "Whether /metrics asks for a token (1) or is public (0)."
)
TOKEN_EXPIRES = Family(
    "dockmesh_api_token_expires_timestamp_seconds",
    "gauge",
    "Unix time at which the API token expires; tokens without expiry have no series.",
    ("token",),
)
DB_UP = Family("dockmesh_db_up", "gauge", "Whether the database answered this scrape.")
COLLECTOR_SUCCESS = Family(
    "dockmesh_collector_success", "gauge", "Whether the collector succeeded.", ("collector",)
)
COLLECTOR_DURATION = Family(
    "dockmesh_collector_duration_seconds", "gauge", "Time the collector took, in seconds.", ("collector",)
)
PERIODIC_TASK_LAST_SUCCESS = Family(
    "dockmesh_periodic_task_last_success_timestamp_seconds",
    "gauge",
    "Unix time at which the periodic task last ran without a fault; 0 if it never did.",
    ("task",),
)
PERIODIC_TASK_FAILURES = Family(
    "dockmesh_periodic_task_failures_total", "counter", "Faults in periodic tasks.", ("task",)
)

HOST_UP = Family(
    "dockmesh_host_up",
    "gauge",
    "Whether the host is heard of (1), be it degraded, or offline (0).",
    ("host",),
)
HOST_STATUS = Family(
    "dockmesh_host_status", "gauge", "Always 1; the status that the host is in.", ("host", "status")
)
HOST_LABELS = Family("dockmesh_host_labels", "gauge", "Always 1; the host's own labels.", ("host",))
HOST_CPUS = Family("dockmesh_host_cpus", "gauge", "Processors of the host.", ("host",))
HOST_MEMORY = Family("dockmesh_host_memory_bytes", "gauge", "Memory of the host, in bytes.", ("host",))
STACK_INFO = Family(
    "dockmesh_stack_info",
    "gauge",
    "Always 1; whether the stack's Compose file is kept here.",
    ("host", "stack", "managed"),
)
STACK_STATE = Family(
    "dockmesh_stack_state", "gauge", "Always 1; the state that the stack is in.", ("host", "stack", "state")
)
_CONTAINER = ("host", "stack", "service", "container")
CONTAINER_INFO = Family(
    "dockmesh_container_info",
    "gauge",
    "Always 1; the labels tell which container and image it is.",
    (*_CONTAINER, "id", "image", "image_digest"),
)
CONTAINER_STATE = Family(
    "dockmesh_container_state",
    "gauge",
    "Always 1; the state that the container is in.",
    (*_CONTAINER, "state"),
)
CONTAINER_HEALTH = Family(
    "dockmesh_container_health",
    "gauge",
    "Always 1; what the health check of the container, which runs, says.",
    (*_CONTAINER, "health"),
)
CONTAINER_START_TIME = Family(
    "dockmesh_container_start_time_seconds",
    "gauge",
    "Unix time at which the container was last started.",
    _CONTAINER,
)
CONTAINER_LAST_EXIT_CODE = Family(
    "dockmesh_container_last_exit_code",
    "gauge",
    "Exit code of the container, while it does not run.",
    _CONTAINER,
)

PAGE = (
    HOSTS,
    STACKS,
    CONTAINERS,
    LAST_SEEN,
    DEPLOY_DURATION,
    BACKUP_LAST_RUN,
    BACKUP_LAST_DURATION,
    API_REQUESTS,
    AUDIT_ENTRIES,
    ALERTS_FIRED,
    AGENT_RTT,
)
"""The eleven families of the page."""

COMPANIONS = (
    BUILD_INFO,
    HOST_INFO,
    CLOCK_SKEW,
    AUTH_ENABLED,
    TOKEN_EXPIRES,
    DB_UP,
    COLLECTOR_SUCCESS,
    COLLECTOR_DURATION,
)
"""What comes along with them."""

OBJECTS = (
    HOST_UP,
    HOST_STATUS,
    HOST_LABELS,
    HOST_CPUS,
    HOST_MEMORY,
    STACK_INFO,
    STACK_STATE,
    CONTAINER_INFO,
    CONTAINER_STATE,
    CONTAINER_HEALTH,
    CONTAINER_START_TIME,
    CONTAINER_LAST_EXIT_CODE,
)
"""What names each thing."""

USAGE: tuple[Family, ...] = ()
"""What each thing uses."""

SERVER = (
    PERIODIC_TASK_LAST_SUCCESS,
    PERIODIC_TASK_FAILURES,
)
"""How dockmesh itself fares."""

GROUPS: dict[Group, tuple[Family, ...]] = {
    Group.FLEET: (*PAGE, *COMPANIONS),
    Group.OBJECTS: OBJECTS,
    Group.USAGE: USAGE,
    Group.SERVER: SERVER,
}
"""The families of each group, in the order of the page; the process's own come after those of `server`."""

HOST_STATUSES = tuple(HostStatus)
STACK_STATES = tuple(StackState)
CONTAINER_STATES = tuple(ContainerState)
