"""The scrape configuration for this server, ready to paste into `prometheus.yml`."""

from collections.abc import Sequence
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest

_FORM = """\
scrape_configs:
  - job_name: dockmesh
    metrics_path: {path}/metrics
    scheme: {scheme}
{params}    static_configs:
      - targets: ['{target}']
"""

_PARAMS = """\
    params:
      'collect[]': [{groups}]
"""

_CREDENTIALS_FILE = """\
    authorization:
      type: Bearer
      credentials_file: {path}
"""

_DISCOVERY = """\
  - job_name: {exporter}
    http_sd_configs:
      - url: {base_url}/api/v1/discovery/prometheus?exporter={exporter}
        refresh_interval: 60s
        authorization:
          type: Bearer
          credentials_file: {path}
    relabel_configs:
      - source_labels: [__meta_dockmesh_host]
        target_label: host
"""

TOKEN_PATH = "/etc/prometheus/dockmesh.token"

_CREDENTIALS = """\
    authorization:
      type: Bearer
      credentials: <your-api-token>
"""


def base_url_of(request: HttpRequest) -> str:
    """Where this server is reached: as set by DOCKMESH_BASE_URL, else as this request reached it."""
    return settings.DOCKMESH_BASE_URL or f"{request.scheme}://{request.get_host()}"


def with_credentials_file(base_url: str, path: str = TOKEN_PATH, *, groups: Sequence[str] = ()) -> str:
    """The recommended form: the token stays out of the configuration and can be rotated without a reload.

    `groups` are those of the metrics that are wanted, here and below; none: all.
    """
    return _form(base_url, groups) + _CREDENTIALS_FILE.format(path=path)


def with_credentials(base_url: str, *, groups: Sequence[str] = ()) -> str:
    """The form with the token in the configuration itself."""
    return _form(base_url, groups) + _CREDENTIALS


def without_credentials(base_url: str, *, groups: Sequence[str] = ()) -> str:
    """For a server whose /metrics is public."""
    return _form(base_url, groups)


def discovery(base_url: str, path: str = TOKEN_PATH) -> str:
    """More jobs: node-exporter and cAdvisor of every host, found by dockmesh's list of the fleet."""
    return "".join(
        _DISCOVERY.format(base_url=base_url.rstrip("/"), exporter=exporter, path=path)
        for exporter in ("node", "cadvisor")
    )


def _form(base_url: str, groups: Sequence[str]) -> str:
    parts = urlsplit(base_url)
    params = _PARAMS.format(groups=", ".join(groups)) if groups else ""
    return _FORM.format(scheme=parts.scheme, path=parts.path.rstrip("/"), target=parts.netloc, params=params)
