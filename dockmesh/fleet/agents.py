"""From an agent's token to its host: the one read of every heartbeat."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from dockmesh.audit.services import Actor
from dockmesh.core.compiled import as_datetime
from dockmesh.fleet import sql
from dockmesh.fleet.models import Host
from tokens import bearer, secret
from tokens.principals import Principal

# What every heartbeat needs, at once.
_QUERY = """
SELECT h.agent_token_id, h.agent_digest, h.agent_pepper, h.id, h.name, p.boot_id, p.sequence, p.inventory_digest,
       p.inventory_at, p.facts_digest, p.is_degraded, p.has_commands, p.rtt_counts, p.rtt_sum, p.version,
       h.container_counts
  FROM fleet_host h JOIN fleet_hostpulse p ON p.host_id = h.id
 WHERE h.agent_token_id IN {keys}
"""


@dataclass(frozen=True, slots=True)
class Agent:
    """An authenticated agent: its host, and the host's heartbeat state as it was when the token was looked up."""

    host_id: int
    host_name: str
    boot_id: str
    sequence: int
    inventory_digest: str
    inventory_at: datetime.datetime | None
    facts_digest: str
    is_degraded: bool
    has_commands: bool
    rtt_counts: str
    rtt_sum: float
    version: int
    container_counts: str
    address: str = ""
    token_id: str = ""

    @property
    def container_count(self) -> int:
        """How many containers its host has."""
        return sum(map(int, self.container_counts.split(",")))

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
    row = next(iter(sql.fetch_among(_QUERY, [token.public_id])), None)
    is_right = _is_right(token, row)
    if row is None or not is_right:
        reason = bearer.Reason.WRONG_SECRET if row else bearer.Reason.UNKNOWN
        raise bearer.bad_token(reason, address=address, token_name=row[4] if row else "")
    return _agent(row, address)


def lock_agents(tokens: Sequence[secret.TokenText]) -> list[Agent | None]:
    """The agents that have these tokens, their heartbeat states locked; one query.

    None for a token that is not right, and where somebody else has locked the heartbeat state: one host must not hold up the
    others.
    """
    return _agents(_QUERY + (" ORDER BY h.id" + sql.for_update("p", skip_locked=True)), tokens)


def known_agents(tokens: Sequence[secret.TokenText]) -> list[Agent | None]:
    """The agents that have these tokens; None for a token that is not right. One query."""
    return _agents(_QUERY, tokens)


def _agents(statement: str, tokens: Sequence[secret.TokenText]) -> list[Agent | None]:
    rows = {row[0]: row for row in sql.fetch_among(statement, [token.public_id for token in tokens])}
    found = [rows.get(token.public_id) for token in tokens]
    return [
        _agent(row) if _is_right(token, row) and row is not None else None
        for token, row in zip(tokens, found, strict=True)
    ]


def lock_agent(agent: Agent) -> Agent | None:
    """The agent as it is now, its heartbeat state locked; None if its token has gone. One query."""
    rows = sql.fetch_among(_QUERY + sql.for_update("p"), [agent.token_id])
    return _agent(rows[0], agent.address) if rows else None


def _is_right(token: secret.TokenText, row: sql.Row | None) -> bool:
    return secret.matches(token, secret.Digest(row[1], row[2]) if row else None)


def _agent(row: sql.Row, address: str = "") -> Agent:
    (
        _,
        _,
        _,
        host_id,
        name,
        boot_id,
        sequence,
        digest,
        at,
        facts,
        is_degraded,
        has_commands,
        counts,
        total,
        version,
        container_counts,
    ) = row
    return Agent(
        host_id,
        name,
        boot_id,
        sequence,
        digest,
        as_datetime(at),
        facts,
        bool(is_degraded),
        bool(has_commands),
        counts,
        total,
        version,
        container_counts,
        address,
        row[0],
    )


def new_credential(host: Host) -> str:
    """Give the unsaved host a new agent token, and return the token's text: it is stored nowhere."""
    token = secret.generate(secret.Kind.AGENT)
    digest = secret.digest(token)
    host.agent_token_id = token.public_id
    host.agent_digest = digest.value
    host.agent_pepper = digest.pepper
    return str(token)
