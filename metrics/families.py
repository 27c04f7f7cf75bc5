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
    "dockmesh_deploy_duration_seconds",
    "histogram",
    "Durations of deploys, in seconds.",
    ("stack", "result"),
    has_exemplars=True,
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
CONTAINER_RESTARTS = Family(
    "dockmesh_container_restarts_total",
    "counter",
    "Restarts of the container by its restart policy, and of those that had its name before.",
    _CONTAINER,
)
CONTAINER_EXITS = Family(
    "dockmesh_container_exits_total",
    "counter",
    "Ends of the container, and of those that had its name before, by whether they were harmless.",
    (*_CONTAINER, "result"),
)
CONTAINER_OOM_KILLS = Family(
    "dockmesh_container_oom_kills_total",
    "counter",
    "Kills for memory in the container, and in those that had its name before.",
    _CONTAINER,
)
CONTAINER_ONEOFF = Family(
    "dockmesh_container_oneoff",
    "gauge",
    "Always 1; the container is one of docker compose run, and none of its stack's own.",
    _CONTAINER,
)
_STACK = ("host", "stack")
STACK_LAST_DEPLOY = Family(
    "dockmesh_stack_last_deploy_timestamp_seconds",
    "gauge",
    "Unix time at which the stack's last deploy ended, and how.",
    (*_STACK, "result"),
)
DEPLOYS_OPEN = Family("dockmesh_deploys_open", "gauge", "Deploys that wait or run.", ("status",))
BACKUP_INFO = Family(
    "dockmesh_backup_info",
    "gauge",
    "Always 1; the labels tell what the backup job is.",
    ("backup_job", "host", "repository", "enabled"),
)
BACKUP_RUNS = Family(
    "dockmesh_backup_runs_total", "counter", "Backups that ended, by result.", ("backup_job", "result")
)
_BACKUP = ("backup_job",)
BACKUP_LAST_ATTEMPT = Family(
    "dockmesh_backup_last_attempt_timestamp_seconds",
    "gauge",
    "Unix time at which the job's last backup ended, however; 0 if there was none.",
    _BACKUP,
)
BACKUP_NEXT_RUN = Family(
    "dockmesh_backup_next_run_timestamp_seconds",
    "gauge",
    "Unix time at which the job's next run is due; 0 if none is.",
    _BACKUP,
)
BACKUP_LAST_VERIFIED = Family(
    "dockmesh_backup_last_verified_timestamp_seconds",
    "gauge",
    "Unix time at which a snapshot of the job was last read again whole; 0 if none ever was.",
    _BACKUP,
)
BACKUP_LAST_BYTES = Family(
    "dockmesh_backup_last_bytes",
    "gauge",
    "Size of what the job's last successful run read, in bytes.",
    _BACKUP,
)
BACKUP_LAST_ADDED_BYTES = Family(
    "dockmesh_backup_last_added_bytes",
    "gauge",
    "Size of what the job's last successful run added to the repository, in bytes.",
    _BACKUP,
)
BACKUP_LAST_FILES = Family(
    "dockmesh_backup_last_files", "gauge", "Files that the job's last successful run read.", _BACKUP
)
BACKUP_LAST_UNREADABLE = Family(
    "dockmesh_backup_last_unreadable_files",
    "gauge",
    "Files that the job's last backup could not read; more than 0 where it was partial.",
    _BACKUP,
)
ALERTS = Family("dockmesh_alerts", "gauge", "Alerts that are open, by rule.", ("rule", "severity", "status"))
NOTIFICATIONS = Family(
    "dockmesh_notifications_total",
    "counter",
    "Messages to the channel that were sent, attempts that failed, and messages that were dropped.",
    ("channel", "result"),
)
IMAGE_UPDATE = Family(
    "dockmesh_image_update_available",
    "gauge",
    "Whether the registry has another image under this name than what runs on the host.",
    ("host", "image"),
)
IMAGE_LAST_CHECK = Family(
    "dockmesh_image_last_check_timestamp_seconds",
    "gauge",
    "When the host's Engine last asked the registry for the image; Unix time.",
    ("host", "image"),
)
CONTAINER_CPU = Family(
    "dockmesh_container_cpu_usage_seconds_total",
    "counter",
    "Processor time of the container since it was started, in seconds.",
    (*_CONTAINER, "mode"),
)
CONTAINER_CPU_THROTTLED = Family(
    "dockmesh_container_cpu_throttled_seconds_total",
    "counter",
    "Time for which the container was kept from processors by its limit, in seconds.",
    _CONTAINER,
)
CONTAINER_MEMORY = Family(
    "dockmesh_container_memory_working_set_bytes",
    "gauge",
    "Memory that the container holds, without the cache that can be had back, in bytes.",
    _CONTAINER,
)
CONTAINER_MEMORY_LIMIT = Family(
    "dockmesh_container_memory_limit_bytes",
    "gauge",
    "Limit of the container's memory, in bytes; without a limit there is no series.",
    _CONTAINER,
)
CONTAINER_RECEIVED = Family(
    "dockmesh_container_network_receive_bytes_total",
    "counter",
    "Bytes that the container received.",
    _CONTAINER,
)
CONTAINER_TRANSMITTED = Family(
    "dockmesh_container_network_transmit_bytes_total",
    "counter",
    "Bytes that the container sent.",
    _CONTAINER,
)
CONTAINER_RECEIVE_ERRORS = Family(
    "dockmesh_container_network_receive_errors_total",
    "counter",
    "Errors in what the container received.",
    _CONTAINER,
)
CONTAINER_TRANSMIT_ERRORS = Family(
    "dockmesh_container_network_transmit_errors_total",
    "counter",
    "Errors in what the container sent.",
    _CONTAINER,
)
CONTAINER_BLOCK_READ = Family(
    "dockmesh_container_block_read_bytes_total",
    "counter",
    "Bytes that the container read from disks.",
    _CONTAINER,
)
CONTAINER_BLOCK_WRITTEN = Family(
    "dockmesh_container_block_written_bytes_total",
    "counter",
    "Bytes that the container wrote to disks.",
    _CONTAINER,
)
CONTAINER_PIDS = Family(
    "dockmesh_container_pids", "gauge", "Processes and threads of the container.", _CONTAINER
)
HOST_CPU = Family(
    "dockmesh_host_cpu_usage_seconds_total",
    "counter",
    "Time for which the host's processors were busy since its start, in seconds.",
    ("host",),
)
HOST_MEMORY_AVAILABLE = Family(
    "dockmesh_host_memory_available_bytes",
    "gauge",
    "Memory of the host that programs could have without swapping, in bytes.",
    ("host",),
)
HOST_LOAD1 = Family("dockmesh_host_load1", "gauge", "Load of the host over one minute.", ("host",))
HOST_DOCKER_ROOT = Family(
    "dockmesh_host_docker_root_bytes",
    "gauge",
    "Size of the file system that Docker's data is on, in bytes.",
    ("host",),
)
HOST_DOCKER_ROOT_FREE = Family(
    "dockmesh_host_docker_root_free_bytes",
    "gauge",
    "What is free on the file system that Docker's data is on, in bytes.",
    ("host",),
)
HOST_DOCKER_DISK = Family(
    "dockmesh_host_docker_disk_bytes", "gauge", "What Docker keeps on disk, in bytes.", ("host", "kind")
)
HOST_DOCKER_RECLAIMABLE = Family(
    "dockmesh_host_docker_reclaimable_bytes",
    "gauge",
    "What of it nothing uses any more, in bytes.",
    ("host", "kind"),
)
VOLUME_SIZE = Family(
    "dockmesh_volume_size_bytes", "gauge", "Size of the volume, in bytes.", ("host", "volume")
)
HEARTBEATS = Family(
    "dockmesh_heartbeats_total", "counter", "Heartbeats of agents, by how they were answered.", ("result",)
)
COMMANDS_OPEN = Family(
    "dockmesh_commands_open", "gauge", "Commands to agents that wait or run.", ("kind", "status")
)
COMMAND_OLDEST_AGE = Family(
    "dockmesh_command_oldest_age_seconds",
    "gauge",
    "Age of the oldest command that waits or runs, in seconds; 0 if there is none.",
)
SCHEDULER_LEADER = Family(
    "dockmesh_scheduler_leader", "gauge", "Whether this replica runs the periodic tasks."
)
DATABASE_SIZE = Family("dockmesh_database_size_bytes", "gauge", "Size of the database, in bytes.")
AUDIT_HEAD = Family("dockmesh_audit_head_sequence", "gauge", "Sequence of the newest audit entry.")
SCRAPES = Family(
    "dockmesh_scrapes_total", "counter", "Scrapes of /metrics, by how they were answered.", ("result",)
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
    STACK_LAST_DEPLOY,
    DEPLOYS_OPEN,
    CONTAINER_INFO,
    CONTAINER_STATE,
    CONTAINER_HEALTH,
    CONTAINER_START_TIME,
    CONTAINER_LAST_EXIT_CODE,
    CONTAINER_RESTARTS,
    CONTAINER_EXITS,
    CONTAINER_OOM_KILLS,
    CONTAINER_ONEOFF,
    BACKUP_INFO,
    BACKUP_RUNS,
    BACKUP_LAST_ATTEMPT,
    BACKUP_NEXT_RUN,
    BACKUP_LAST_VERIFIED,
    BACKUP_LAST_BYTES,
    BACKUP_LAST_ADDED_BYTES,
    BACKUP_LAST_FILES,
    BACKUP_LAST_UNREADABLE,
    ALERTS,
    NOTIFICATIONS,
    IMAGE_UPDATE,
    IMAGE_LAST_CHECK,
)
"""What names each thing."""

USAGE = (
    CONTAINER_CPU,
    CONTAINER_CPU_THROTTLED,
    CONTAINER_MEMORY,
    CONTAINER_MEMORY_LIMIT,
    CONTAINER_RECEIVED,
    CONTAINER_TRANSMITTED,
    CONTAINER_RECEIVE_ERRORS,
    CONTAINER_TRANSMIT_ERRORS,
    CONTAINER_BLOCK_READ,
    CONTAINER_BLOCK_WRITTEN,
    CONTAINER_PIDS,
    HOST_CPU,
    HOST_MEMORY_AVAILABLE,
    HOST_LOAD1,
    HOST_DOCKER_ROOT,
    HOST_DOCKER_ROOT_FREE,
    HOST_DOCKER_DISK,
    HOST_DOCKER_RECLAIMABLE,
    VOLUME_SIZE,
)
"""What each thing uses."""

SERVER = (
    HEARTBEATS,
    COMMANDS_OPEN,
    COMMAND_OLDEST_AGE,
    PERIODIC_TASK_LAST_SUCCESS,
    PERIODIC_TASK_FAILURES,
    SCHEDULER_LEADER,
    DATABASE_SIZE,
    AUDIT_HEAD,
    SCRAPES,
)
"""How dockmesh itself fares."""

GROUPS: dict[Group, tuple[Family, ...]] = {
    Group.FLEET: (*PAGE, *COMPANIONS),
    Group.OBJECTS: OBJECTS,
    Group.USAGE: USAGE,
    Group.SERVER: SERVER,
}
"""The families of each group, in the order of the page; the process's own come after those of `server`."""

NAMES = frozenset(name for families in GROUPS.values() for family in families for name in family.names)
"""Every name by which `name[]=` finds one of these."""

ABOUT_COLLECTORS = (COLLECTOR_SUCCESS, COLLECTOR_DURATION)
"""Of all collectors that the groups of a scrape have."""

HOST_STATUSES = tuple(HostStatus)
STACK_STATES = tuple(StackState)
CONTAINER_STATES = tuple(ContainerState)
