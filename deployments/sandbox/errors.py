"""The one error that an operator of the sandbox sees."""


class SandboxError(Exception):
    """Says in one sentence what the sandbox could not do, and what to do about it where that is known."""


def say_denied(error: PermissionError) -> str:
    """Return the sentence for a file of the sandbox that this user may not read or write."""
    return f"{error.filename} is another user's, root's perhaps: work as they do, or have them remove it."
