"""What to run on a host to start its agent, as the pages show it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from dockmesh.fleet import agent_files

_TOKEN = "DOCKMESH_AGENT_ENROLLMENT_TOKEN"


@dataclass(frozen=True)
class Way:
    """One way to run the agent: when to take it, and what to paste."""

    title: str
    when: str
    command: str


def is_loopback(base_url: str) -> bool:
    """Whether the address leads every machine but this one to itself."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def ways(base_url: str, token: str) -> list[Way]:
    """For a new host, the usual way first."""
    pyz = agent_files.pyz()
    return [
        Way(
            "With one line",
            "As root, or with sudo before sh. It checks Python, Docker and Compose, enrols the host and starts the"
            " agent as a systemd service; with --dry-run after the token it only says what it would do, and"
            " --uninstall in the token's place takes it away again.",
            f"curl -fsS {base_url}/agent/install | sh -s -- {token}",
        ),
        Way(
            "As a container",
            "Builds the agent's image from what this server hands out, and runs it.",
            f"docker build -t dockmesh-agent {base_url}/agent/context.tar.gz\n{_docker_run(base_url, token)}",
        ),
        Way(
            "By hand",
            "To try it, as root or as a member of the group docker: it runs until you stop it, and needs nothing but"
            " Python 3.9 or newer.",
            f"curl -fsS -o {pyz.name} {base_url}/agent/{pyz.name}\n"
            f"echo '{pyz.sha256}  {pyz.name}' | sha256sum --check\n"
            f"python3 {pyz.name} run --server {base_url} --enrollment-token {token}",
        ),
    ]


def renewal_ways(base_url: str, token: str) -> list[Way]:
    """As `ways`, for a host whose agent shall forget the token that it has."""
    return [
        Way(
            "As a service",
            "As root, or with sudo before sh: the agent is brought up to date, forgets its token and enrols with the"
            " new one.",
            f"curl -fsS {base_url}/agent/install | sh -s -- --renew {token}",
        ),
        Way(
            "As a container",
            "The container is made anew, with the same options as at first.",
            f"docker rm -f dockmesh-agent\nrm -f /var/lib/dockmesh-agent/credential.json\n{_docker_run(base_url, token)}",
        ),
        Way(
            "By hand",
            "Stop the agent first, and paste this as the user who runs it: the folder is another one for root. With a"
            " --state-dir of your own, remove credential.json there and give the option again.",
            'if [ "$(id -u)" = 0 ]; then state=/var/lib; else state="${XDG_STATE_HOME:-$HOME/.local/state}"; fi\n'
            'rm -f "$state/dockmesh-agent/credential.json"\n'
            f"python3 {agent_files.PYZ} run --server {base_url} --enrollment-token {token}",
        ),
    ]


def _docker_run(base_url: str, token: str) -> str:
    # A container has a loopback of its own; on the host's network it also has the host's name.
    network = "--network host" if is_loopback(base_url) else '--hostname "$(hostname)"'
    return (
        f"docker run -d --name dockmesh-agent --restart unless-stopped {network} \\\n"
        "  -v /var/run/docker.sock:/var/run/docker.sock \\\n"
        "  -v /var/lib/dockmesh-agent:/var/lib/dockmesh-agent \\\n"
        f"  -e DOCKMESH_AGENT_SERVER={base_url} \\\n"
        f"  -e {_TOKEN}={token} \\\n"
        "  dockmesh-agent"
    )
