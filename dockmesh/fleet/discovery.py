"""The targets of Prometheus's `http_sd_configs`: https://prometheus.io/docs/prometheus/latest/http_sd/."""

import re
from typing import Any

from dockmesh.core.ip import parse_address
from dockmesh.fleet.selectors import Target, targets

_NOT_IN_A_LABEL = re.compile(r"[^a-zA-Z0-9_]", re.ASCII)


def target_groups(exporter: str) -> list[dict[str, Any]]:
    """One group for each host with this exporter, by the host's id; offline ones too, or they would vanish
    from Prometheus just when somebody looks for them."""
    return [_group(target, exporter) for target in targets(exporter)]


def _group(target: Target, exporter: str) -> dict[str, Any]:
    labels = {
        "__meta_dockmesh_host": target.name,
        "__meta_dockmesh_host_id": str(target.id),
        "__meta_dockmesh_status": target.status.value,
        "__meta_dockmesh_exporter": exporter,
    }
    for name in sorted(target.labels):
        # Of two names that become the same, the first in their order.
        labels.setdefault(f"__meta_dockmesh_label_{_NOT_IN_A_LABEL.sub('_', name)}", target.labels[name])
    return {"targets": [f"{_bracketed(target.address)}:{target.port}"], "labels": labels}


def _bracketed(address: str) -> str:
    """An IPv6 address in brackets, an IPv4 one in IPv6's clothes as itself, a name as it is."""
    ip = parse_address(address)
    if ip is None:
        return address
    return f"[{ip}]" if ip.version == 6 else str(ip)
