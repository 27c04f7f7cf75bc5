"""From an agent's token to its host: the one read of every heartbeat."""

import datetime
from dataclasses import dataclass

from dockmesh.audit.services import Actor
from dockmesh.fleet import sql
from dockmesh.fleet.models import Host
from tokens import bearer, secret
from tokens.principals import Principal

# What every heartbeat needs, at once.
_QUERY = """
SELECT h.id, h.name, h.agent_digest, h.agent_pepper, p.boot_id, p.sequence, p.inventory_digest, p.inventory_at,
       p.facts_digest, p.has_commands, p.rtt_counts, p.rtt_sum
  FROM fleet_host h JOIN fleet_hostpulse p ON p.host_id = h.id
 WHERE h.agent_token_id = %s
"""


@dataclass(frozen=True, slots=True)
class Agent:
    """An authenticated agent: its host, and the host's pulse as it was when the token was looked up."""

    host_id: int
    host_name: str
    boot_id: str
    sequence: int
    inventory_digest: str
    inventory_at: datetime.datetime | None
    facts_digest: str
    has_commands: bool
    rtt_counts: str
    rtt_sum: float
    address: str

    @property
    def actor(self) -> Actor:
        """The agent as the audit log names it."""
        return Actor("agent", str(self.host_id), self.host_name, self.address)

    @property
    def principal(self) -> Principal:
        """The agent as one who asks for something; it holds no permission."""
        return Principal("agent", str(self.host_id), self.host_name, frozenset(), self.address)


def authenticate(header: str | None, *, address: str) -> Agent:
    """The agent whose token the header carries; raises `bearer.Refused`. One query."""
    token = bearer.credential(header, kind=secret.Kind.AGENT, address=address)
    row = next(iter(sql.fetch(_QUERY, [token.public_id])), None)
    is_right = secret.matches(token, secret.Digest(row[2], row[3]) if row else None)
    if row is None or not is_right:
        reason = bearer.Reason.WRONG_SECRET if row else bearer.Reason.UNKNOWN
        raise bearer.bad_token(reason, address=address, token_name=row[1] if row else "")
    return Agent(
        row[0],
        row[1],
        row[4],
        row[5],
        row[6],
        sql.moment(row[7]),
        row[8],
        bool(row[9]),
        row[10],
        row[11],
        address,
    )


def new_credential(host: Host) -> str:
    """Give the unsaved host a new agent token, and return the token's text: it is stored nowhere."""
    token = secret.generate(secret.Kind.AGENT)
    digest = secret.digest(token)
    host.agent_token_id = token.public_id
    host.agent_digest = digest.value
    host.agent_pepper = digest.pepper
    return str(token)
