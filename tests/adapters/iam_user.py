"""An IAM user of a test's own in the sandbox, with a key, and what the double of IAM says of it."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from deployments.sandbox.stack import Sandbox
from deployments.sandbox.uploads import BUCKET, MAY, iam_client
from tasks.records.credential_care import S3Credentials

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

Key = tuple[str, str]


@dataclass
class IamUser:
    """A user, and the operator's view of it."""

    sandbox: Sandbox
    name: str
    iam: "IAMClient"
    key: Key

    def terms(self, **changes: Any) -> dict[str, Any]:
        """What a profile says of its credentials."""
        folder = self.sandbox.vault.folder
        return {
            "user": self.name,
            "bucket": BUCKET,
            "prefix": f"{self.name}/",
            "endpoint_url": self.sandbox.vendors.iam_address,
            "iam_url": self.sandbox.vendors.iam_address,
            "admin_key_id": f"file:{folder / 's3-access-key-id'}",
            "admin_secret": f"file:{folder / 's3-secret-access-key'}",
            **changes,
        }

    def section(self, **changes: Any) -> S3Credentials:
        return S3Credentials.model_validate(self.terms(**changes))

    def keys(self) -> dict[str, str]:
        """Every key of the user with its status."""
        found = self.iam.list_access_keys(UserName=self.name)["AccessKeyMetadata"]
        return {key["AccessKeyId"]: key["Status"] for key in found}

    def make_key(self) -> Key:
        made = self.iam.create_access_key(UserName=self.name)["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]

    def s3(self, key: Key) -> "S3Client":
        return boto3.client(
            "s3",
            endpoint_url=self.sandbox.vendors.iam_address,
            aws_access_key_id=key[0],
            aws_secret_access_key=key[1],
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, signature_version="s3v4"),
        )

    def works(self, key: Key) -> bool:
        try:
            self.s3(key).put_object(Bucket=BUCKET, Key=f"{self.name}/used", Body=b"x")
        except ClientError:
            return False
        return True

    def objects(self) -> list[str]:
        """What lies below the prefix of the user."""
        found = self.sandbox.object_store.client().list_objects_v2(Bucket=BUCKET, Prefix=f"{self.name}/")
        return [entry["Key"].removeprefix(f"{self.name}/") for entry in found.get("Contents", [])]


@contextmanager
def iam_user(sandbox: Sandbox) -> Iterator[IamUser]:
    """Make a user that may use the bucket of the uploads; it, and what IAM was told, is taken back."""
    store = sandbox.object_store
    direct = iam_client(store.endpoint, store.key_id, store.key_secret)
    name = f"uploads-{secrets.token_hex(4)}"
    direct.create_user(UserName=name)
    direct.put_user_policy(UserName=name, PolicyName=BUCKET, PolicyDocument=json.dumps(MAY))
    front = iam_client(sandbox.vendors.iam_address, store.key_id, store.key_secret)
    made = front.create_access_key(UserName=name)["AccessKey"]
    user = IamUser(sandbox, name, front, (made["AccessKeyId"], made["SecretAccessKey"]))
    try:
        yield user
    finally:
        sandbox.vendors.conduct("iam", mode="up", faults=[], propagation_seconds=0)
        for key in list(user.keys()):
            direct.delete_access_key(UserName=name, AccessKeyId=key)
        direct.delete_user_policy(UserName=name, PolicyName=BUCKET)
        direct.delete_user(UserName=name)
        for left in user.objects():
            store.client().delete_object(Bucket=BUCKET, Key=f"{name}/{left}")
