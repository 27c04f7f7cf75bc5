"""The fleet in Django admin: to look at; it is changed on its own pages, by the API and by the agents."""

from django.contrib import admin

from dockmesh.core.admin import ReadOnlyAdmin
from dockmesh.fleet.models import AgentCommand, Container, EnrollmentToken, Host, Stack


@admin.register(Host)
class HostAdmin(ReadOnlyAdmin):
    """Hosts."""

    list_display = ("name", "address", "agent_version", "docker_version", "last_seen_at", "enrolled_at")
    list_select_related = ("heartbeat_state",)
    search_fields = ("name",)
    exclude = ("agent_digest", "agent_pepper", "past_boots")

    @admin.display(ordering="heartbeat_state__last_seen_at")
    def last_seen_at(self, host: Host) -> str:
        """By the server's clock."""
        heard_at = host.heartbeat_state.heard_at
        return f"{heard_at:%Y-%m-%d %H:%M:%S}" if heard_at else "never"


@admin.register(Stack)
class StackAdmin(ReadOnlyAdmin):
    """Stacks, in their stored state."""

    list_display = ("name", "host", "state", "is_managed", "state_changed_at")
    list_filter = ("state", "is_managed")
    list_select_related = ("host",)
    search_fields = ("name",)


@admin.register(Container)
class ContainerAdmin(ReadOnlyAdmin):
    """Containers, in their stored state."""

    list_display = ("name", "host", "stack", "image", "state", "health", "restart_count")
    list_filter = ("state", "health")
    list_select_related = ("host", "stack")
    search_fields = ("name", "image")


@admin.register(EnrollmentToken)
class EnrollmentTokenAdmin(ReadOnlyAdmin):
    """Enrollment tokens without their digests."""

    list_display = ("public_id", "created_by", "created_at", "expires_at", "used_at", "host", "is_renewal")
    list_select_related = ("host",)
    exclude = ("digest", "pepper")


@admin.register(AgentCommand)
class AgentCommandAdmin(ReadOnlyAdmin):
    """Commands without their payloads, which may hold what nobody should read."""

    list_display = ("id", "host", "kind", "status", "created_at", "handed_out_at", "finished_at")
    list_filter = ("kind", "status")
    list_select_related = ("host",)
    exclude = ("payload",)
