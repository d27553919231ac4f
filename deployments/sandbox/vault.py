"""The made-up secrets of one sandbox: random, made once, private files that nothing else may read."""

import contextlib
import os
import secrets
import string
from collections.abc import Callable
from pathlib import Path

# What breaks a URL that is not percent-escaped: a real password has such characters sooner or later.
NASTY = "@:/%#?&+= "


class Vault:
    """Keeps one secret a file, below a folder that only its owner may enter."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made when the first secret is."""
        self.folder = folder

    def path(self, name: str) -> Path:
        """Return where the secret of this name lives."""
        return self.folder / name

    def read(self, name: str) -> str:
        """Return a secret that exists.

        Raises:
            FileNotFoundError: it was never made.
        """
        return self.path(name).read_text(encoding="utf-8")

    def once(self, name: str, make: Callable[[], str]) -> str:
        """Return the secret of this name; made first, and for good, when there is none yet."""
        try:
            return self.read(name)
        except FileNotFoundError:
            self._write_first(name, make())
        return self.read(name)

    def write(self, name: str, value: str) -> None:
        """Put a secret in place of what was there, so that a reader sees the old or the new one whole."""
        self._make_folder()
        write_private(self.path(name), value)

    def _write_first(self, name: str, value: str) -> None:
        """Put a secret where there is none; of two parts that make it at once, the first one's stays."""
        self._make_folder()
        candidate = self.folder / f".{name}.{secrets.token_hex(8)}"
        write_private(candidate, value)
        with contextlib.suppress(FileExistsError):
            self.path(name).hardlink_to(candidate)
        candidate.unlink()

    def _make_folder(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.folder.chmod(0o700)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, durably and all at once."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def plain_password() -> str:
    """Return a password that needs no escaping anywhere."""
    return secrets.token_urlsafe(24)


def nasty_password() -> str:
    """Return a password with every character that an unescaped URL trips over."""
    return f"{secrets.token_urlsafe(12)}{NASTY}{secrets.token_urlsafe(12)}"


def access_key_id() -> str:
    """Return a made-up key id in the form of AWS: twenty capitals and digits."""
    return "AKIA" + "".join(secrets.choice(string.ascii_uppercase + string.digits) for _ in range(16))


def hex_key() -> str:
    """Return 32 hexadecimal characters, the runbook's form of ENCRYPTION_KEY."""
    return secrets.token_hex(16)
