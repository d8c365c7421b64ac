"""The one error that reaches the user: what happened, and what to do next."""


class ClusterError(Exception):
    """A failure that the user can act on.

    `message` says what happened, `next_step` what to type or install now ("" where the message says it all).
    """

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
