"""How glibc hands out memory to the threads of the web process."""

import ctypes

_M_ARENA_MAX = -8  # <malloc.h>


def use_few_arenas() -> None:
    """Let all threads share two heaps; called before they start.

    glibc gives each thread a heap of its own. Any of the workers may make the text of /metrics, so each heap
    would come to hold room for the whole of it: at 600,000 series that was a third of the process. Python's
    own lock lets threads allocate one at a time anyway. Another libc has no such function and needs none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)
