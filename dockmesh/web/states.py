"""One palette for every state word: well, warning, bad, unknown, working, info, idle."""

from __future__ import annotations

TONES = ("well", "warning", "bad", "unknown", "working", "info", "idle")

_WORDS = {
    "well": "online running ok success resolved active enabled healthy up accepted done on",
    "warning": "degraded partial paused restarting expired unhealthy stale missed off warning",
    "bad": "offline error dead failed failure firing critical refused down",
    "working": "deploying pending queued sent starting removing",
    "info": "info",
    "idle": "waiting stopped exited created disabled revoked cancelled muted used removed",
    "unknown": "unknown never none",
}

TONE_OF = {word: tone for tone, words in _WORDS.items() for word in words.split()}


def tone_of(word: str) -> str:
    """The tone of a state; a word nobody knows is unknown."""
    return TONE_OF.get(word.lower().replace(" ", "_").replace("-", "_"), "unknown")
