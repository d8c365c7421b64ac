"""What the process does about its memory at moments that it knows to be right."""

import ctypes
import gc


def give_back_memory() -> None:
    """Return what the C library keeps of freed blocks; after loading a large index that is hundreds of megabytes.

    Does nothing where the C library is another than glibc.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def settle_memory() -> None:
    """Take every object that is there for good: the garbage collector looks at none of them again.

    To be called after loading what stays. Imports and compiled code are a million objects; going through them takes
    100 ms, in which no query is answered, and would happen every few seconds under load.
    """
    gc.collect()
    gc.freeze()
