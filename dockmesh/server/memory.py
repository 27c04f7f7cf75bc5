"""How the web process keeps house with memory."""

import ctypes
import gc

_M_ARENA_MAX = -8  # <malloc.h>


def use_few_arenas() -> None:
    """Let all threads share two heaps; before they start.

    glibc gives each thread a heap of its own. Any of the workers may make the text of /metrics, so each heap
    would come to hold room for the whole of it: at 600,000 series that was a quarter of the process. Python's
    own lock lets threads allocate one at a time anyway. Another libc has no such function and needs none.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 2)


def give_back() -> None:
    """Return to the system what has been freed: glibc keeps what lies below something that is still in use."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def freeze() -> None:
    """Take what was loaded at start out of the garbage collector's rounds: none of it will ever be garbage.

    A full round looks at every object there is, while all requests wait.
    """
    gc.collect()
    gc.freeze()
