"""The double of AWS IAM: what the object store's own IAM lacks, and how it is told to misbehave."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import boto3
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError, ReadTimeoutError

from deployments.sandbox.applications import PROPERTYPULSE
from deployments.sandbox.stack import Sandbox
from deployments.sandbox.uploads import BUCKET, USER
from tests.runbooks.conftest import wait_until

if TYPE_CHECKING:
    from mypy_boto3_iam import IAMClient
    from mypy_boto3_s3 import S3Client

Key = tuple[str, str]
OPTIONS = Config(retries={"total_max_attempts": 1})
S3_OPTIONS = OPTIONS.merge(Config(signature_version="s3v4"))


def iam_of(sandbox: Sandbox, key: Key, seconds: float = 30) -> "IAMClient":
    return boto3.client(
        "iam",
        endpoint_url=sandbox.vendors.iam_address,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        region_name="us-east-1",
        config=OPTIONS.merge(Config(read_timeout=seconds)),
    )


def s3_of(sandbox: Sandbox, key: Key) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=sandbox.vendors.iam_address,
        aws_access_key_id=key[0],
        aws_secret_access_key=key[1],
        region_name="us-east-1",
        config=S3_OPTIONS,
    )


@pytest.fixture
def operator(sandbox: Sandbox) -> Key:
    return sandbox.object_store.key_id, sandbox.object_store.key_secret


@pytest.fixture
def own(sandbox: Sandbox) -> Key:
    """The application's key."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    key_id, secret = (sandbox.applications.setting(PROPERTYPULSE, name) for name in names)
    return key_id, secret


@pytest.fixture
def iam(sandbox: Sandbox, operator: Key, own: Key) -> Iterator["IAMClient"]:
    """IAM for the operator; whatever was made or told is taken back."""
    client = iam_of(sandbox, operator)
    yield client
    sandbox.vendors.conduct("iam", mode="up", faults=[], propagation_seconds=0)
    for found in client.list_access_keys(UserName=USER)["AccessKeyMetadata"]:
        if found["AccessKeyId"] != own[0]:
            client.delete_access_key(UserName=USER, AccessKeyId=found["AccessKeyId"])


def code_of(act: Callable[[], Any]) -> str:
    with pytest.raises(ClientError) as caught:
        act()
    return str(caught.value.response["Error"]["Code"])


def make_key(iam: "IAMClient") -> Key:
    made = iam.create_access_key(UserName=USER)["AccessKey"]
    return made["AccessKeyId"], made["SecretAccessKey"]


def statuses(iam: "IAMClient") -> dict[str, str]:
    found = iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
    return {key["AccessKeyId"]: key["Status"] for key in found}


def test_the_applications_key_is_of_a_user_of_its_own_that_may_use_one_bucket(
    sandbox: Sandbox, iam: "IAMClient", own: Key
) -> None:
    assert statuses(iam) == {own[0]: "Active"}
    s3 = s3_of(sandbox, own)
    s3.put_object(Bucket=BUCKET, Key="probe", Body=b"12345")
    assert s3.get_object(Bucket=BUCKET, Key="probe")["Body"].read() == b"12345"
    assert s3.head_object(Bucket=BUCKET, Key="probe")["ContentLength"] == 5
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=BUCKET, Prefix="probe")["Contents"]] == [
        "probe"
    ]
    s3.delete_object(Bucket=BUCKET, Key="probe")
    assert code_of(lambda: s3.list_objects_v2(Bucket="backups")) == "AccessDenied"
    assert code_of(lambda: iam_of(sandbox, own).list_access_keys(UserName=USER)) == "AccessDenied"


def test_a_user_has_two_keys_at_most_and_each_says_when_it_was_made(iam: "IAMClient") -> None:
    make_key(iam)
    assert code_of(lambda: iam.create_access_key(UserName=USER)) == "LimitExceeded"
    assert code_of(lambda: iam.create_access_key(UserName="nobody")) == "NoSuchEntity"
    found = iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
    assert len({key["CreateDate"] for key in found}) == 2


def test_an_inactive_key_is_refused_until_it_is_active_again_and_a_deleted_one_for_ever(
    sandbox: Sandbox, iam: "IAMClient"
) -> None:
    key = make_key(iam)
    s3 = s3_of(sandbox, key)
    s3.list_objects_v2(Bucket=BUCKET)
    iam.update_access_key(UserName=USER, AccessKeyId=key[0], Status="Inactive")
    assert statuses(iam)[key[0]] == "Inactive"
    assert code_of(lambda: s3.list_objects_v2(Bucket=BUCKET)) == "InvalidAccessKeyId"
    iam.update_access_key(UserName=USER, AccessKeyId=key[0], Status="Active")
    s3.list_objects_v2(Bucket=BUCKET)
    iam.delete_access_key(UserName=USER, AccessKeyId=key[0])
    assert code_of(lambda: s3.list_objects_v2(Bucket=BUCKET)) == "InvalidAccessKeyId"
    assert code_of(lambda: iam.delete_access_key(UserName=USER, AccessKeyId=key[0])) == "NoSuchEntity"


def test_the_last_use_of_a_key_is_known(sandbox: Sandbox, iam: "IAMClient") -> None:
    key = make_key(iam)
    never = iam.get_access_key_last_used(AccessKeyId=key[0])
    assert (never["UserName"], never["AccessKeyLastUsed"]["ServiceName"]) == (USER, "N/A")
    assert "LastUsedDate" not in never["AccessKeyLastUsed"]
    assert (
        code_of(lambda: s3_of(sandbox, (key[0], "wrong")).list_objects_v2(Bucket=BUCKET))
        == "SignatureDoesNotMatch"
    )
    assert "LastUsedDate" not in iam.get_access_key_last_used(AccessKeyId=key[0])["AccessKeyLastUsed"]
    url = s3_of(sandbox, key).generate_presigned_url("get_object", Params={"Bucket": BUCKET, "Key": "none"})
    assert httpx.get(url).status_code == 404
    used = iam.get_access_key_last_used(AccessKeyId=key[0])["AccessKeyLastUsed"]
    assert used["LastUsedDate"] >= next(
        found["CreateDate"]
        for found in iam.list_access_keys(UserName=USER)["AccessKeyMetadata"]
        if found["AccessKeyId"] == key[0]
    )


def test_a_new_key_is_unknown_until_it_has_propagated(sandbox: Sandbox, iam: "IAMClient") -> None:
    sandbox.vendors.conduct("iam", propagation_seconds=60)
    key = make_key(iam)
    s3 = s3_of(sandbox, key)
    assert code_of(lambda: s3.list_objects_v2(Bucket=BUCKET)) == "InvalidAccessKeyId"
    url = s3.generate_presigned_url("list_objects_v2", Params={"Bucket": BUCKET})
    assert httpx.get(url).status_code == 403
    assert code_of(lambda: iam_of(sandbox, key).get_user(UserName=USER)) == "InvalidClientTokenId"
    sandbox.vendors.conduct("iam", propagation_seconds=0)
    s3.list_objects_v2(Bucket=BUCKET)
    assert httpx.get(url).status_code == 200


def test_callers_are_checked_before_anything_is_done(
    sandbox: Sandbox, iam: "IAMClient", operator: Key
) -> None:
    before = statuses(iam)
    wrong, unknown = iam_of(sandbox, (operator[0], "wrong")), iam_of(sandbox, ("AKIA" + 16 * "X", "wrong"))
    assert code_of(lambda: wrong.create_access_key(UserName=USER)) == "SignatureDoesNotMatch"
    assert code_of(lambda: unknown.create_access_key(UserName=USER)) == "InvalidClientTokenId"
    bare = httpx.post(f"{sandbox.vendors.iam_address}/", data={"Action": "CreateAccessKey"})
    assert (bare.status_code, "MissingAuthenticationToken" in bare.text) == (403, True)
    assert statuses(iam) == before


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"Action": "CreateAccessKey", "UserName": USER, "Colour": "red"}, "ValidationError"),
        ({"Action": "UpdateAccessKey", "UserName": USER, "AccessKeyId": "A" * 20}, "ValidationError"),
        ({"Action": "UpdateAccessKey", "AccessKeyId": "A" * 20, "Status": "Off"}, "ValidationError"),
        ({"Action": "DeleteAccessKey", "AccessKeyId": "short"}, "ValidationError"),
        ({"Action": "MakeCoffee"}, "InvalidAction"),
    ],
)
def test_requests_are_checked_strictly(
    sandbox: Sandbox, operator: Key, form: dict[str, str], code: str
) -> None:
    url = f"{sandbox.vendors.iam_address}/"
    prepared = httpx.Request("POST", url, data={**form, "Version": "2010-05-08"})
    request = AWSRequest(
        "POST", url, data=prepared.read(), headers={"Content-Type": prepared.headers["Content-Type"]}
    )
    SigV4Auth(Credentials(*operator), "iam", "us-east-1").add_auth(request)
    answer = httpx.post(url, content=prepared.read(), headers=dict(request.headers.items()))
    assert (answer.status_code, f"<Code>{code}</Code>" in answer.text) == (400, True)


def test_it_fails_on_demand_before_the_work_and_after_it(
    sandbox: Sandbox, iam: "IAMClient", operator: Key
) -> None:
    before = set(statuses(iam))
    sandbox.vendors.conduct("iam", faults=[{"path": "/CreateAccessKey", "status": 429}])
    assert code_of(lambda: iam.create_access_key(UserName=USER)) == "Throttling"
    sandbox.vendors.conduct("iam", faults=[{"path": "/CreateAccessKey", "status": 500}])
    assert code_of(lambda: iam.create_access_key(UserName=USER)) == "InternalFailure"
    assert set(statuses(iam)) == before
    sandbox.vendors.conduct("iam", faults=[{"path": "/CreateAccessKey", "status": None, "works": True}])
    with pytest.raises(ReadTimeoutError):
        iam_of(sandbox, operator, seconds=1).create_access_key(UserName=USER)
    assert len(set(statuses(iam)) - before) == 1
    sandbox.vendors.conduct("iam", mode="down")
    assert code_of(lambda: iam.list_access_keys(UserName=USER)) == "ServiceUnavailable"


def test_it_says_so_when_the_store_behind_it_is_away(sandbox: Sandbox, iam: "IAMClient", own: Key) -> None:
    sandbox.object_store.kill()
    try:
        assert code_of(lambda: iam.list_access_keys(UserName=USER)) == "ServiceUnavailable"
        assert code_of(lambda: s3_of(sandbox, own).list_objects_v2(Bucket=BUCKET)) == "502"
    finally:
        sandbox.object_store.start()


def test_what_it_knows_outlives_its_process_and_no_secret_is_in_it(
    sandbox: Sandbox, iam: "IAMClient"
) -> None:
    key = make_key(iam)
    s3_of(sandbox, key).list_objects_v2(Bucket=BUCKET)
    used = iam.get_access_key_last_used(AccessKeyId=key[0])["AccessKeyLastUsed"]["LastUsedDate"]
    sandbox.vendors.kill()
    sandbox.vendors.start()
    wait_until(lambda: bool(statuses(iam)))
    assert iam.get_access_key_last_used(AccessKeyId=key[0])["AccessKeyLastUsed"]["LastUsedDate"] == used
    known = json.loads((sandbox.state / "vendors" / "iam.json").read_text(encoding="utf-8"))
    assert key[0] in known
    assert key[1] not in json.dumps(known)
