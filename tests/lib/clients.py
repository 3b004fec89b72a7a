"""Programs that know nothing of massfs, on a bucket: rclone, s3cmd, boto3. Keys are relative to the volume's prefix; files go by paths."""
import json
import os
import re
import subprocess

import mfs
from mfs import check

OWN = ".massfs/"  # what of a volume is no file
# rclone shows a control character as its picture, in listings and in local names, and writes it back as itself.
PICTURES = str.maketrans({chr(0x2421): "\x7f", **{chr(0x2400 + n): chr(n) for n in range(32)}})


class Client:
    def __init__(self, place, bucket, prefix=""):
        self.bucket = bucket
        self.prefix = prefix
        self.place = f"{place}/{self.name}"
        os.makedirs(self.place, exist_ok=True)
        self.env = {"PATH": os.environ["PATH"], "HOME": self.place, "LC_ALL": "C.UTF-8"}

    def call(self, *argv, ok=(0,)):
        done = subprocess.run([*argv], env=self.env, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
        check(ok is None or done.returncode in ok,
              f"{' '.join(argv)}: exit code {done.returncode}: {done.stderr.decode('utf-8', 'replace')[-2000:]}")
        return done.stdout


class Rclone(Client):
    name = "rclone"

    def __init__(self, *args):
        super().__init__(*args)
        self.env.update({"RCLONE_CONFIG": "/dev/null", "RCLONE_CONFIG_X_TYPE": "s3", "RCLONE_CONFIG_X_PROVIDER": "Minio",
                         "RCLONE_CONFIG_X_ACCESS_KEY_ID": self.bucket.access, "RCLONE_CONFIG_X_REGION": self.bucket.region,
                         "RCLONE_CONFIG_X_SECRET_ACCESS_KEY": self.bucket.secret, "RCLONE_LOW_LEVEL_RETRIES": "2",
                         "RCLONE_CONFIG_X_ENDPOINT": self.bucket.endpoints.split(",")[0], "RCLONE_RETRIES": "1",
                         "RCLONE_S3_CHUNK_SIZE": "5M", "RCLONE_S3_UPLOAD_CUTOFF": "8M", "RCLONE_S3_NO_CHECK_BUCKET": "true"})

    def at(self, key):
        return f"x:{self.bucket.name}/{self.prefix}{key}"

    def put(self, path, key):
        self.call("rclone", "copyto", path, self.at(key))

    def fetch(self, key, path):
        self.call("rclone", "copyto", self.at(key), path)

    def fetch_all(self, path):
        self.call("rclone", "copy", self.at(""), path, "--exclude", f"/{OWN}**")

    def sync(self, path, key="", *args):
        """As people mirror a folder: what differs is put, what is gone there is deleted here. What it said it did."""
        text = self.call("rclone", "sync", "-v", "--use-json-log", path, self.at(key), "--exclude", f"/{OWN}**", *args)
        return text.decode()

    def delete(self, key):
        self.call("rclone", "deletefile", self.at(key))

    def copy(self, key, to):
        """On the server's side: what massfs noted with the object goes along."""
        self.call("rclone", "copyto", self.at(key), self.at(to))

    def keys(self, key=""):
        text = self.call("rclone", "lsjson", "-R", "--files-only", "--no-modtime", "--no-mimetype", self.at(key), "--exclude", f"/{OWN}**")
        return sorted((key + f["Path"].translate(PICTURES), f["Size"]) for f in json.loads(text))


class S3cmd(Client):
    name = "s3cmd"

    def __init__(self, *args):
        super().__init__(*args)
        scheme, _, host = self.bucket.endpoints.split(",")[0].partition("://")
        self.conf = f"{self.place}/s3cfg"
        mfs.put(self.conf, (f"[default]\naccess_key = {self.bucket.access}\nsecret_key = {self.bucket.secret}\nhost_base = {host}\n"
                            f"host_bucket = {host}\nuse_https = {scheme == 'https'}\nbucket_location = {self.bucket.region}\n"
                            "multipart_chunk_size_mb = 5\nsignature_v2 = False\nencoding = UTF-8\n").encode(), 0o600)

    def at(self, key):
        return f"s3://{self.bucket.name}/{self.prefix}{key}"

    def s3cmd(self, *argv):
        return self.call("s3cmd", "-c", self.conf, "--no-progress", *argv)

    def put(self, path, key):
        self.s3cmd("put", path, self.at(key))

    def fetch(self, key, path):
        self.s3cmd("get", "--force", self.at(key), path)

    def fetch_all(self, path):
        # What it makes of control characters in names is no file's name.
        self.s3cmd("sync", "--exclude", f"{OWN}*", "--exclude", "control/*", self.at(""), path + "/")

    def delete(self, key):
        self.s3cmd("del", self.at(key))

    def copy(self, key, to):
        self.s3cmd("cp", self.at(key), self.at(to))

    def keys(self, key=""):
        found = []
        for line in self.s3cmd("ls", "--recursive", self.at(key)).decode().splitlines():
            words = re.fullmatch(r"\S+ \S+ +(\d+)  (s3://.*)", line)  # the rest of a name with a line's end in it is no line
            name = words.group(2)[len(self.at("")):] if words else OWN
            if not name.startswith((OWN, "control/")):
                found.append((name, int(words.group(1))))
        return sorted(found)


class Boto3(Client):
    name = "boto3"

    def __init__(self, *args):
        super().__init__(*args)
        try:
            import boto3
            from boto3.s3.transfer import TransferConfig
            from botocore.config import Config
        except ImportError as error:
            raise mfs.Skip(f"no boto3 for this python: {error}") from error
        self.s3 = boto3.client("s3", endpoint_url=self.bucket.endpoints.split(",")[0], region_name=self.bucket.region,
                               aws_access_key_id=self.bucket.access, aws_secret_access_key=self.bucket.secret,
                               config=Config(s3={"addressing_style": "path"}))
        self.parts = TransferConfig(multipart_threshold=8 << 20, multipart_chunksize=5 << 20)

    def put(self, path, key):
        self.s3.upload_file(path, self.bucket.name, self.prefix + key, Config=self.parts)

    def fetch(self, key, path):
        # Its temporary name beside the longest ones would be too long.
        self.s3.download_file(self.bucket.name, self.prefix + key, f"{self.place}/part", Config=self.parts)
        os.replace(f"{self.place}/part", path)

    def fetch_all(self, path):
        for key, _ in self.keys():
            os.makedirs(os.path.dirname(f"{path}/{key}"), exist_ok=True)
            self.fetch(key, f"{path}/{key}")

    def delete(self, key):
        self.s3.delete_object(Bucket=self.bucket.name, Key=self.prefix + key)

    def copy(self, key, to):
        self.s3.copy_object(Bucket=self.bucket.name, Key=self.prefix + to, CopySource={"Bucket": self.bucket.name, "Key": self.prefix + key})

    def keys(self, key=""):
        found = []
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.name, Prefix=self.prefix + key):
            found += [(o["Key"][len(self.prefix):], o["Size"]) for o in page.get("Contents", ())]
        return sorted(f for f in found if not f[0].startswith(OWN))

    def head(self, key, **more):
        return self.s3.head_object(Bucket=self.bucket.name, Key=self.prefix + key, **more)


def clients(place, bucket, prefix=""):
    """All there are on this machine; tests/run installs them."""
    found = []
    for kind in (Rclone, S3cmd, Boto3):
        try:
            found.append(kind(place, bucket, prefix))
        except mfs.Skip as reason:
            print(f"       without {kind.name}: {reason}", flush=True)
    return found
