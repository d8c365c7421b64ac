"""Errors of the harness.

HarnessError
├── CommandError            a program ended with an error, or did not end in time
├── NotMetError             what was waited for did not come
└── UnsuitableClusterError  the cluster lacks something that the request needs
"""


class HarnessError(Exception):
    """Something outside did not do what was asked; the message says what, and what to do next."""


class CommandError(HarnessError):
    """A program ended with an error, or did not end in time."""


class NotMetError(HarnessError):
    """What was waited for did not come in time."""


class UnsuitableClusterError(HarnessError):
    """The cluster lacks something that the request needs."""
