"""The one error that an operator of the sandbox sees."""


class SandboxError(Exception):
    """Says in one sentence what the sandbox could not do, and what to do about it where that is known."""
