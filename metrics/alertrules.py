"""The rules of `monitoring/prometheus/rules/`, with other limits.

The committed files are the source: they can be copied as they are, and here a limit is replaced in the text
of its own rules only, in the expression and in the words of the description alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

RULES = Path(__file__).resolve().parents[1] / "monitoring" / "prometheus" / "rules"
FILES = ("dockmesh.recording.yml", "dockmesh.alerts.yml")
RUNBOOKS = "monitoring/runbooks.md"


@dataclass(frozen=True)
class Limit:
    """A number that an option changes: what it is, how it stands in the rules, and in which."""

    option: str
    default: str
    alerts: tuple[str, ...]
    help: str


LIMITS = (
    Limit(
        "agent-stale-seconds", "120", ("DockmeshAgentStale",), "silence after which a host's agent is stale"
    ),
    Limit(
        "backup-stale-hours",
        "26",
        ("DockmeshBackupStale", "DockmeshBackupNeverSucceeded"),
        "time after which a backup is overdue",
    ),
    Limit("deploy-slow-seconds", "600", ("DockmeshDeploySlow",), "length from which a deploy is slow"),
    Limit(
        "rtt-high-seconds", "1", ("DockmeshAgentRTTHigh",), "round trip from which a host is slow to reach"
    ),
    Limit("clock-skew-seconds", "5", ("DockmeshClockSkew",), "difference from which a host's clock is wrong"),
    Limit(
        "token-expiring-days", "7", ("DockmeshTokenExpiring",), "time before its end at which a token is due"
    ),
    Limit(
        "error-budget",
        "0.001",
        ("DockmeshApiErrorBudgetBurnFast", "DockmeshApiErrorBudgetBurnSlow"),
        "share of API requests that may fail",
    ),
)


def rules(
    limits: Mapping[str, str], *, job: str = "dockmesh", runbooks: str = RUNBOOKS, base_url: str = ""
) -> str:
    """Recording and alert rules as one rule file.

    `limits` maps options to numbers as text; what it leaves out stays. `job` is the scrape job of dockmesh,
    `runbooks` the address of the runbooks, `base_url` that of the server, without a slash at its end. Raises OSError where the committed files are missing.
    """
    comments, groups = [], []
    for name in FILES:
        comment, _, body = (RULES / name).read_text().partition("groups:\n")
        comments.append(comment)
        groups.append(body)
    text = "#\n".join(comments) + "groups:\n" + "\n".join(groups)
    for limit in LIMITS:
        if limit.option in limits:
            for alert in limit.alerts:
                text = _replaced(text, alert, limit.default, limits[limit.option])
    text = text.replace("          page: /", f"          page: {base_url}/")
    return text.replace('job="dockmesh"', f'job="{job}"').replace(f"{RUNBOOKS}#", f"{runbooks}#")


def _replaced(text: str, alert: str, old: str, new: str) -> str:
    """The text with a number replaced within one alert's rule."""
    start = text.index(f"- alert: {alert}\n")
    end = text.find("\n      - alert: ", start + 1)
    end = len(text) if end == -1 else end
    number = re.compile(rf"(?<![\w.]){re.escape(old)}(?![\d.])")
    return text[:start] + number.sub(new, text[start:end]) + text[end:]
