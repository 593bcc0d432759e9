"""What the script asks of S3 beside fhirctl, by boto3. Usage: s3.py VERB ARGUMENT…"""

import pathlib
import sys
import time

import boto3
from botocore.config import Config

s3 = boto3.client("s3", config=Config(retries={"max_attempts": 10}))
verb, bucket, *rest = sys.argv[1:]


def keys(prefix):
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        yield from (found["Key"] for found in page.get("Contents", []))


if verb == "make":
    s3.create_bucket(Bucket=bucket)
elif verb == "put":
    s3.put_object(Bucket=bucket, Key=rest[0], Body=b"something else\n")
elif verb == "list":
    print("\n".join(keys(rest[0])))
elif verb == "fetch":
    prefix, folder = rest
    for key in keys(prefix):
        path = pathlib.Path(folder) / key.removeprefix(prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
elif verb == "flip":
    body = bytearray(s3.get_object(Bucket=bucket, Key=rest[0])["Body"].read())
    body[len(body) // 2] ^= 1
    s3.put_object(Bucket=bucket, Key=rest[0], Body=bytes(body))
elif verb == "unfinished":
    print(len(s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])))
elif verb == "await-upload":
    # Until one has a part that is there.
    for _ in range(3000):
        for upload in s3.list_multipart_uploads(Bucket=bucket).get("Uploads", []):
            parts = s3.list_parts(Bucket=bucket, Key=upload["Key"], UploadId=upload["UploadId"])
            if parts.get("Parts"):
                sys.exit()
        time.sleep(0.005)
    sys.exit("no upload was begun")
elif verb == "checksummed":
    # What the store itself has checked.
    heads = (s3.head_object(Bucket=bucket, Key=key, ChecksumMode="ENABLED") for key in keys(rest[0]))
    print(sum("ChecksumSHA256" in head for head in heads))
else:
    sys.exit(f"no such verb: {verb}")
