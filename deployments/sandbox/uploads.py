"""The IAM user that PropertyPulse uploads with: a bucket, what it may do there, and its first key."""

import contextlib
import json
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from deployments.sandbox.vault import Vault

if TYPE_CHECKING:  # stubs: a development dependency
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

USER = "propertypulse-uploads"
BUCKET = "uploads"
# The first key's id and secret, in the vault; what is in force later is what the `.env` says.
KEY_ID, KEY_SECRET = "uploads-access-key-id", "uploads-secret-access-key"
MAY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*"],
        }
    ],
}


def iam_client(endpoint: str, key_id: str, secret: str) -> "IAMClient":
    """Return a client of IAM that gives up at once."""
    return boto3.client(
        "iam",
        endpoint_url=endpoint,
        aws_access_key_id=key_id,
        aws_secret_access_key=secret,
        region_name="us-east-1",
        config=Config(retries={"max_attempts": 0}, connect_timeout=1, read_timeout=5),
    )


def make_uploads_user(vault: Vault, iam: "IAMClient", store: "S3Client") -> None:
    """Make the bucket, the user and its first key, unless that was done."""
    if vault.path(KEY_SECRET).exists():
        return
    with contextlib.suppress(store.exceptions.BucketAlreadyOwnedByYou, store.exceptions.BucketAlreadyExists):
        store.create_bucket(Bucket=BUCKET)
    with contextlib.suppress(iam.exceptions.EntityAlreadyExistsException):
        iam.create_user(UserName=USER)
    iam.put_user_policy(UserName=USER, PolicyName=BUCKET, PolicyDocument=json.dumps(MAY))
    # A key that was made before a kill, and whose secret nobody kept, is good for nothing.
    for found in iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]:
        iam.delete_access_key(UserName=USER, AccessKeyId=found["AccessKeyId"])
    made = iam.create_access_key(UserName=USER)["AccessKey"]
    vault.write(KEY_ID, made["AccessKeyId"])
    vault.write(KEY_SECRET, made["SecretAccessKey"])
