"""The S3 object store of the sandbox: SeaweedFS in its small form, with signatures checked."""

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from deployments.sandbox import programs
from deployments.sandbox.ports import HOST, Ports
from deployments.sandbox.supervisor import Supervisor
from deployments.sandbox.uploads import iam_client, make_uploads_user
from deployments.sandbox.vault import Vault, access_key_id, plain_password, write_private

if TYPE_CHECKING:  # stubs: a development dependency
    from mypy_boto3_s3 import S3Client

BUCKET = "backups"
REGION = "us-east-1"
# The operator's key, in the vault: it manages the users' keys, and the backups are written with it.
KEY_ID, KEY_SECRET = "s3-access-key-id", "s3-secret-access-key"
# One start in sixteen takes five seconds, and one took twenty.
START_SECONDS = 60
STOP_SECONDS = 5


class ObjectStore:
    """One `weed mini` process with one bucket and one administrator's key."""

    name = "object-store"

    def __init__(self, supervisor: Supervisor, vault: Vault, ports: Ports) -> None:
        """Take where to run; nothing starts here."""
        self._supervisor = supervisor
        self._vault = vault
        self._ports = ports
        self._data = supervisor.state / "object-store"

    @property
    def endpoint(self) -> str:
        """Return the URL that an S3 client takes as its endpoint."""
        return f"http://{HOST}:{self._ports.s3}"

    @property
    def key_id(self) -> str:
        """Return the access key id."""
        return self._vault.once(KEY_ID, access_key_id)

    @property
    def key_secret(self) -> str:
        """Return the secret access key."""
        return self._vault.once(KEY_SECRET, plain_password)

    def client(self) -> "S3Client":
        """Return a client that gives up at once, for probes."""
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.key_id,
            aws_secret_access_key=self.key_secret,
            region_name=REGION,
            config=Config(retries={"max_attempts": 0}, connect_timeout=1, read_timeout=5),
        )

    def is_running(self) -> bool:
        """Tell whether the store's process lives."""
        return self._supervisor.process(self.name) is not None

    def start(self) -> None:
        """Start the store unless it runs, and wait until it takes an object.

        Raises:
            SandboxError: it does not come up.
        """
        key_id, key_secret = self.key_id, self.key_secret
        if not self.is_running():
            self._data.mkdir(parents=True, exist_ok=True)
            configuration = self._supervisor.state / "object-store.json"
            write_private(configuration, _identities(key_id, key_secret))
            self._supervisor.spawn(self.name, self._command(configuration), folder=self._data)
        client = self.client()

        def missing() -> str | None:
            try:
                client.put_object(Bucket=BUCKET, Key=".probe", Body=b"")
                client.delete_object(Bucket=BUCKET, Key=".probe")
            except (BotoCoreError, ClientError) as error:
                return type(error).__name__
            return None

        self._supervisor.wait_until(self.name, missing, seconds=START_SECONDS)
        make_uploads_user(self._vault, iam_client(self.endpoint, key_id, key_secret), client)

    def stop(self) -> None:
        """Stop the store as an operator would."""
        self._supervisor.stop(self.name, signal.SIGTERM, seconds=STOP_SECONDS)

    def kill(self) -> None:
        """Take the store away with SIGKILL."""
        self._supervisor.kill(self.name)

    def _command(self, configuration: Path) -> list[str | Path]:
        """Return the command line; most of it overrides what `weed mini` would do by itself."""
        state, ports = self._supervisor.state, self._ports
        return [
            programs.script("weed"),
            f"-logdir={self._supervisor.log(self.name).parent}",
            "mini",
            f"-ip={HOST}",
            f"-ip.bind={HOST}",
            f"-dir={self._data}",
            f"-bucket={BUCKET}",
            f"-filer.localSocket={state}/filer.sock",
            f"-s3.localSocket={state}/s3.sock",
            f"-master.port={ports.s3_master}",
            f"-master.port.grpc={ports.s3_master_grpc}",
            f"-volume.port={ports.s3_volume}",
            f"-volume.port.grpc={ports.s3_volume_grpc}",
            f"-filer.port={ports.s3_filer}",
            f"-filer.port.grpc={ports.s3_filer_grpc}",
            f"-s3.port={ports.s3}",
            f"-s3.port.grpc={ports.s3_grpc}",
            f"-admin.port={ports.s3_admin}",
            f"-admin.port.grpc={ports.s3_admin_grpc}",
            f"-s3.config={configuration}",
            "-s3.iam.readOnly=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",
            "-volume.preStopSeconds=0",
        ]


def _identities(key_id: str, key_secret: str) -> str:
    credentials = [{"accessKey": key_id, "secretKey": key_secret}]
    actions = ["Admin", "Read", "List", "Tagging", "Write"]
    return json.dumps({"identities": [{"name": "operator", "credentials": credentials, "actions": actions}]})
