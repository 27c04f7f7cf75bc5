"""The output of a command on a host, as it is kept: bounded, its beginning and its end."""

from dockmesh.core.text import LINE_CONTROLS

MAX_BYTES = 64 * 1024
HEAD_BYTES = 16 * 1024
LEFT_OUT = "\n[… left out …]\n"


def appended(kept: str, chunk: str) -> str:
    """`kept` (from an earlier call, or empty) with `chunk` at its end, in at most 64 KiB of UTF-8.

    What is too much goes from the middle: the first 16 KiB and the end stay.
    """
    chunk = LINE_CONTROLS.sub("\N{REPLACEMENT CHARACTER}", chunk.replace("\r\n", "\n"))
    head, mark, tail = kept.partition(LEFT_OUT)
    if not mark:
        if len((kept + chunk).encode()) <= MAX_BYTES:
            return kept + chunk
        whole = (kept + chunk).encode()
        head, tail = whole[:HEAD_BYTES].decode(errors="ignore"), whole[HEAD_BYTES:].decode(errors="ignore")
        chunk = ""
    room = MAX_BYTES - len(head.encode()) - len(LEFT_OUT.encode())
    return head + LEFT_OUT + (tail + chunk).encode()[-room:].decode(errors="ignore")
