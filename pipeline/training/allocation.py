"""How a rank's process takes memory from the system."""

ALLOCATION = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(1 << 62),
    "MALLOC_TOP_PAD_": str(1 << 26),
}
"""For the C library of a rank's process, which reads it as it starts: freed memory stays for the next step.

A step frees and allocates the same large tensors as the one before. Given back to the system in between, each of their
pages has to be cleared and mapped again: on a CPU up to a fifth of the time of a step.
"""
