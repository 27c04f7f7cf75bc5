"""All addresses of the server, room by room."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path, reverse_lazy

from dockmesh.web import account_views

admin.site.site_header, admin.site.site_title = "dockmesh", "dockmesh admin"
# "View site": by itself it leads to the path below which the server is, without its last slash.
admin.site.site_url = reverse_lazy("web:overview")  # type: ignore[assignment]  # (lazy: the routes are not there yet)

urlpatterns: list[URLPattern | URLResolver] = [
    # First what is asked for most: scrapes and heartbeats.
    path("", include("metrics.urls")),
    path("api/v1/", include("dockmesh.fleet.api_urls")),
    path("", include("dockmesh.deploys.urls")),
    path("", include("dockmesh.backups.urls")),
    path("api/v1/", include("dockmesh.deploys.api_urls")),
    path("api/v1/", include("dockmesh.backups.api_urls")),
    path("", include("dockmesh.web.urls")),
    path("", include("dockmesh.fleet.urls")),
    path("", include("tokens.urls")),
    path("api/v1/", include("tokens.api_urls")),
    path("", include("dockmesh.audit.urls")),
    path("api/v1/", include("dockmesh.audit.api_urls")),
    path("", include("dockmesh.alerts.urls")),
    path("api/v1/", include("dockmesh.alerts.api_urls")),
    # Django admin's own ways in know neither the sign-in limit nor the audit log.
    path("admin/login/", account_views.admin_sign_in),
    path("admin/logout/", account_views.sign_out),
    path("admin/password_change/", account_views.Password.as_view()),
    path("admin/", admin.site.urls),
]

handler400 = "dockmesh.web.error_views.bad_request"
handler403 = "dockmesh.web.error_views.forbidden"
handler404 = "dockmesh.web.error_views.not_found"
handler500 = "dockmesh.web.error_views.server_error"
