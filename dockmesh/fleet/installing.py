"""What to paste on a host to start its agent, as the pages show it."""

Command = tuple[str, str, str]


def agent_commands(base_url: str, token: str) -> list[Command]:
    """(title, when to take it, what to paste) of each way to run the agent; docs/agent.md has them all."""
    return [
        (
            "By hand",
            "In a copy of dockmesh, to try it out: it runs until you stop it.",
            "python3 -m venv agent-venv && agent-venv/bin/pip install -r packaging/agent/requirements.txt\n"
            f"agent-venv/bin/python -m dockmesh.agent run --server {base_url} --enrollment-token {token}",
        ),
        (
            "As a service",
            "In a copy of dockmesh, as root: systemd starts it with the machine.",
            "install -d -m 0755 /opt/dockmesh-agent && cp -r dockmesh docs packaging /opt/dockmesh-agent/\n"
            "python3 -m venv /opt/dockmesh-agent/venv\n"
            "/opt/dockmesh-agent/venv/bin/pip install -r packaging/agent/requirements.txt\n"
            "install -d -m 0700 /etc/dockmesh && install -m 0600 /dev/null /etc/dockmesh/agent.env\n"
            "cat > /etc/dockmesh/agent.env <<EOF\n"
            f"DOCKMESH_AGENT_SERVER={base_url}\n"
            f"DOCKMESH_AGENT_ENROLLMENT_TOKEN={token}\n"
            "EOF\n"
            "cp packaging/agent/dockmesh-agent.service /etc/systemd/system/\n"
            "systemctl enable --now dockmesh-agent",
        ),
        (
            "As a container",
            "In a copy of dockmesh: builds the agent's image and runs it.",
            "docker build -f packaging/agent/Dockerfile -t dockmesh-agent .\n"
            'docker run -d --name dockmesh-agent --restart unless-stopped --hostname "$(hostname)" \\\n'
            "  -v /var/run/docker.sock:/var/run/docker.sock \\\n"
            "  -v /var/lib/dockmesh-agent:/var/lib/dockmesh-agent \\\n"
            f"  -e DOCKMESH_AGENT_SERVER={base_url} \\\n"
            f"  -e DOCKMESH_AGENT_ENROLLMENT_TOKEN={token} \\\n"
            "  dockmesh-agent",
        ),
    ]


def renewal_commands(base_url: str, token: str) -> list[Command]:
    """As `agent_commands`, for a host whose agent shall forget the token that it has."""
    variable = "DOCKMESH_AGENT_ENROLLMENT_TOKEN"
    return [
        (
            "As a service",
            "As root: the agent forgets its token and enrols with the new one.",
            "systemctl stop dockmesh-agent\n"
            "rm -f /var/lib/dockmesh-agent/credential.json\n"
            f"sed -i '/^{variable}=/d' /etc/dockmesh/agent.env\n"
            f"echo '{variable}={token}' >> /etc/dockmesh/agent.env\n"
            "systemctl start dockmesh-agent",
        ),
        (
            "By hand",
            "Stop the agent first, and paste this as the user who runs it: the folder is another one for root. With a"
            " --state-dir of your own, remove credential.json there and give the option again.",
            'if [ "$(id -u)" = 0 ]; then state=/var/lib; else state="${XDG_STATE_HOME:-$HOME/.local/state}"; fi\n'
            'rm -f "$state/dockmesh-agent/credential.json"\n'
            f"agent-venv/bin/python -m dockmesh.agent run --server {base_url} --enrollment-token {token}",
        ),
        (
            "As a container",
            "Then start it again as at first, with this token.",
            "docker rm -f dockmesh-agent\n"
            "rm -f /var/lib/dockmesh-agent/credential.json\n"
            f"# docker run … -e {variable}={token} … dockmesh-agent",
        ),
    ]
