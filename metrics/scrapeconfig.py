"""The scrape configuration for this server, ready to paste into `prometheus.yml`."""

from urllib.parse import urlsplit

_FORM = """\
scrape_configs:
  - job_name: dockmesh
    metrics_path: /metrics
    scheme: {scheme}
    static_configs:
      - targets: ['{target}']
"""

_CREDENTIALS_FILE = """\
    authorization:
      type: Bearer
      credentials_file: /etc/prometheus/dockmesh.token
"""

_CREDENTIALS = """\
    authorization:
      type: Bearer
      credentials: <your-api-token>
"""


def with_credentials_file(base_url: str) -> str:
    """The recommended form: the token stays out of the configuration and can be rotated without a reload."""
    return _form(base_url) + _CREDENTIALS_FILE


def with_credentials(base_url: str) -> str:
    """The form with the token in the configuration itself."""
    return _form(base_url) + _CREDENTIALS


def without_credentials(base_url: str) -> str:
    """For a server whose /metrics is public."""
    return _form(base_url)


def _form(base_url: str) -> str:
    parts = urlsplit(base_url)
    return _FORM.format(scheme=parts.scheme, target=parts.netloc)
