"""Django's settings. Everything that an operator may change comes from `dockmesh.env`."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dockmesh import env

# Before anything imports prometheus_client, which decides on import where its values live: they stay in
# the process, and metrics.multiprocess does the sharing.
PROMETHEUS_MULTIPROC_DIR = os.environ.pop("PROMETHEUS_MULTIPROC_DIR", "")
import prometheus_client  # noqa: E402, F401

if PROMETHEUS_MULTIPROC_DIR:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = PROMETHEUS_MULTIPROC_DIR  # for the processes we start

ENVIRONMENT = env.read()

BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = False
SECRET_KEY = ENVIRONMENT.secret_key
SECRET_KEY_FALLBACKS = list(ENVIRONMENT.secret_key_fallbacks)
ALLOWED_HOSTS = list(ENVIRONMENT.allowed_hosts)

# dockmesh's own
DOCKMESH_METRICS_AUTH = ENVIRONMENT.is_metrics_auth_on
DOCKMESH_DATA_DIR = ENVIRONMENT.data_dir
DOCKMESH_BASE_URL = ENVIRONMENT.base_url
# The path below which people and agents reach the server: empty, or like /dockmesh.
DOCKMESH_BASE_PATH = urlsplit(DOCKMESH_BASE_URL).path
DOCKMESH_TOKEN_PEPPERS = ENVIRONMENT.token_peppers
DOCKMESH_TRUSTED_PROXIES = ENVIRONMENT.trusted_proxies
DOCKMESH_HEARTBEAT_INTERVAL = ENVIRONMENT.heartbeat_interval_seconds
DOCKMESH_HOST_OFFLINE_AFTER = ENVIRONMENT.host_offline_after_seconds
DOCKMESH_ALERT_LOCAL_RECEIVERS = ENVIRONMENT.are_local_receivers_allowed
DOCKMESH_AUDIT_RETENTION_DAYS = ENVIRONMENT.audit_retention_days
DOCKMESH_AUDIT_CHECKPOINT_SINK = ENVIRONMENT.audit_checkpoint_sink
DOCKMESH_MAX_BODY_BYTES = 4 * 1024 * 1024

INSTALLED_APPS = [
    "metrics",
    "dockmesh.web",
    "dockmesh.alerts",
    "dockmesh.backups",
    "dockmesh.deploys",
    "dockmesh.fleet",
    "tokens",
    "dockmesh.audit",
    "dockmesh.scheduler",
    "dockmesh.core",
    "django_prometheus",
    "rest_framework",
    "drf_spectacular",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "dockmesh.core.addresses.BasePath",
    "dockmesh.core.health.HealthMiddleware",
    "dockmesh.core.http.ClientAddress",
    "metrics.requests.CountApiRequests",
    "django_prometheus.middleware.PrometheusBeforeMiddleware",
    "dockmesh.web.middleware.SecurityHeaders",
    "dockmesh.core.hosts.AllowedHosts",
    "dockmesh.core.http.RequestRules",
    "dockmesh.web.staticfiles.StaticFiles",
    "dockmesh.core.machines.Sessions",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "dockmesh.core.machines.Authentication",
    "dockmesh.core.machines.Messages",
    "dockmesh.core.http.DatabaseAway",
    "dockmesh.core.machines.RequestMetrics",
]

ROOT_URLCONF = "dockmesh.urls"
WSGI_APPLICATION = "dockmesh.wsgi.application"
APPEND_SLASH = False
FORCE_SCRIPT_NAME = DOCKMESH_BASE_PATH or None

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def _database(database: env.Database) -> dict[str, Any]:
    if database.engine == "sqlite":
        return {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": database.name,
            "CONN_MAX_AGE": None,
            # A data file for the tests, since an in-memory database can't be shared by threads and processes.
            "TEST": {"NAME": str(Path(database.name).with_name("test.sqlite3"))},
            "OPTIONS": {
                # Writers wait for each other from the start instead of failing in the middle.
                "transaction_mode": "IMMEDIATE",
                "timeout": 20,
                "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-65536;"
                " PRAGMA mmap_size=268435456; PRAGMA journal_size_limit=67108864;",
            },
        }
    return {
        "ENGINE": "dockmesh.core.postgresql",
        "NAME": database.name,
        "HOST": database.host,
        "PORT": database.port,
        "USER": database.user,
        "PASSWORD": database.password,
        "CONN_MAX_AGE": 300,
        "CONN_HEALTH_CHECKS": True,
        # A pooler that gives a session to others after each transaction loses such cursors.
        "DISABLE_SERVER_SIDE_CURSORS": True,
        "OPTIONS": {"connect_timeout": 2, **dict(database.options)},
    }


DATABASES = {"default": _database(ENVIRONMENT.database)}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

AUTH_USER_MODEL = "tokens.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "web:sign-in"
LOGIN_REDIRECT_URL = "web:overview"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_HTTPONLY = True
CSRF_COOKIE_SAMESITE = "Lax"
CSRF_FAILURE_VIEW = "dockmesh.web.error_views.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = DOCKMESH_BASE_URL.startswith("https://")
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = f"{DOCKMESH_BASE_PATH}/"
if DOCKMESH_BASE_PATH:
    # What else answers by this name may have cookies for all of it, and the usual names are those of every Django.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "dockmesh_sessionid", "dockmesh_csrftoken"
CSRF_TRUSTED_ORIGINS = [DOCKMESH_BASE_URL.removesuffix(DOCKMESH_BASE_PATH)] if DOCKMESH_BASE_URL else []
SECURE_PROXY_SSL_HEADER = None  # dockmesh.core.http decides by DOCKMESH_TRUSTED_PROXIES

DATA_UPLOAD_MAX_MEMORY_SIZE = DOCKMESH_MAX_BODY_BYTES

LANGUAGE_CODE = "en"
USE_I18N = False
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = f"{DOCKMESH_BASE_PATH}/static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "dockmesh.web.staticfiles.HashedStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_ALLOW_ALL_ORIGINS = False

# Asked by each page of `dockmesh.core.pages`, which knows nothing of users.
PAGE_AUTHORISATION = "tokens.access.authorise"
PAGE_SIGN_IN = "dockmesh.web.account_views.sign_in_keeping"

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "tokens.authentication.BearerAuthentication",
        "tokens.authentication.SessionAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["tokens.authentication.DeclaredPermission"],
    "DEFAULT_PARSER_CLASSES": ["dockmesh.core.api.StrictJSONParser"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_METADATA_CLASS": "dockmesh.core.api.Metadata",
    "DEFAULT_PAGINATION_CLASS": "dockmesh.core.api.Paging",
    "DEFAULT_SCHEMA_CLASS": "tokens.schema.Schema",
    "EXCEPTION_HANDLER": "dockmesh.core.api.problem_response",
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "dockmesh.core.api.JSONOnly",
    "UNAUTHENTICATED_USER": None,
}

SPECTACULAR_SETTINGS = {
    "TITLE": "dockmesh",
    "DESCRIPTION": "The REST API of dockmesh.",
    "VERSION": "v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "ENUM_NAME_OVERRIDES": {
        "HostStatus": "dockmesh.fleet.states.HostStatus",
        "ContainerState": "dockmesh.fleet.states.ContainerState",
        "AlertRuleKind": "dockmesh.alerts.models.AlertRule.Kind",
        "AlertSeverity": "dockmesh.alerts.models.AlertRule.Severity",
        "AlertChannelKind": "dockmesh.alerts.models.Channel.Kind",
        "AlertStatus": "dockmesh.alerts.models.Alert.Status",
        "DeployStatus": "dockmesh.deploys.models.Deploy.Status",
        "BackupRunStatus": "dockmesh.backups.models.BackupRun.Status",
        "BackupRunKind": "dockmesh.backups.models.BackupRun.Kind",
        "StackState": "dockmesh.fleet.states.StackState",
        "TokenState": ["active", "disabled", "expired", "revoked"],
    },
    "COMPONENT_SPLIT_PATCH": False,
    # The values are listed anyway.
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "SERVERS": [{"url": DOCKMESH_BASE_URL}] if DOCKMESH_BASE_PATH else [],
}

# django-prometheus: its middleware counts requests; the exposition is ours.
PROMETHEUS_EXPORT_MIGRATIONS = False

LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"()": "dockmesh.core.logs.Line", "format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}
    },
    "filters": {"libraries": {"()": "dockmesh.core.logs.LibrariesAtWarning"}},
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["libraries"]},
        "nothing": {"class": "logging.NullHandler"},
    },
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        # It writes addresses with their tokens; what went wrong is told by who called it.
        "apprise": {"handlers": ["nothing"], "propagate": False},
        "django": {"handlers": ["console"], "level": "WARNING", "propagate": False},
        # A 4xx is in the access log; said twice, a scan would fill the disk. A 5xx comes with its traceback.
        "django.request": {"level": "ERROR"},
    },
}
