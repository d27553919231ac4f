"""Faults of what is deployed: the `.env`, the program's files, its packages."""

import json

from deployments.sandbox import vendor_google
from deployments.sandbox.breakage import Breakage
from deployments.sandbox.vault import plain_password

UNREADABLE = 0
# Packages come with a deployment; nobody ran `npm ci` for this one.
NEW_PACKAGE = ("helmet", "^8.1.0")


def lose_variable(broken: Breakage) -> None:
    """Deploy an `.env` without a variable that it needs."""
    broken.set(missing_variable(broken.service), None)
    broken.restart()
    broken.wait_until_errored()


def spoil_variable(broken: Breakage) -> None:
    """Deploy an `.env` in which somebody cut a value short."""
    name = malformed_variable(broken.service)
    broken.set(name, broken.setting(name)[2:12])
    broken.restart()
    broken.wait_until_errored()


def missing_variable(service: str) -> str:
    """Return the variable that is taken away."""
    return "EMAIL_FOR_OTP" if service == "invoice" else "STRIPE_WEBHOOK_SECRET"


def malformed_variable(service: str) -> str:
    """Return the variable whose value is cut short."""
    return "ENCRYPTION_KEY" if service == "invoice" else "STRIPE_SECRET_KEY"


def deploy_conflict(broken: Breakage) -> None:
    """Deploy a file in which a merge was never finished."""
    file = program_file(broken.service)
    text = broken.read(file)
    broken.write(file, f"<<<<<<< HEAD\n{text}=======\n>>>>>>> release\n")
    broken.restart()
    broken.wait_until_errored()


def program_file(service: str) -> str:
    """Return the file of the program that is harmed."""
    return "routes/audit.js" if service == "invoice" else "src/routes/payments.js"


def forget_package(broken: Breakage) -> None:
    """Deploy a program that needs a package which is not installed."""
    name, version = NEW_PACKAGE
    package = json.loads(broken.read("package.json"))
    package["dependencies"][name] = version
    broken.write("package.json", json.dumps(package, indent=2))
    broken.write(broken.entry, f"require('{name}');\n{broken.read(broken.entry)}")
    broken.restart()
    broken.wait_until_errored()


def close_file(broken: Breakage) -> None:
    """Deploy a file that its user may not read."""
    file = broken.folder / program_file(broken.service)
    broken.undo("mode", str(file), file.stat().st_mode & 0o777)
    file.chmod(UNREADABLE)
    broken.restart()
    broken.wait_until_errored()


def lose_jwt_secret(broken: Breakage) -> None:
    """Deploy an `.env` without the secret that tokens are signed with."""
    broken.set("JWT_SECRET", None)
    broken.restart()
    broken.wait_until_errored()


def change_jwt_secret(broken: Breakage) -> None:
    """Change the secret in the `.env`, and leave the application as it is."""
    broken.set("JWT_SECRET", plain_password() + plain_password())


def change_jwt_secret_and_restart(broken: Breakage) -> None:
    """Change the secret, so that everybody is logged out."""
    change_jwt_secret(broken)
    broken.restart()


def change_firebase_key(broken: Breakage) -> None:
    """Put a key into the `.env` that Google does not know."""
    key = vendor_google.private_key().replace("\n", "\\n")
    broken.set("FIREBASE_PRIVATE_KEY", f'"{key}"')
    broken.restart()
