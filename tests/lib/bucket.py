"""A MinIO of the tests' own (tests/servers), and a small S3 client that has nothing in common with massfs's."""
import hashlib
import hmac
import html
import os
import re
import ssl
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

SERVERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "servers")


class Bucket:
    """service: minio (one node), minio4 (four). The server's folder is below `place`."""

    def __init__(self, place, service="minio", name="volume"):
        self.service = service
        self.dir = f"{place}/servers"
        # The user's cache folder has the binary; a suite's HOME is its work directory.
        text = subprocess.run([SERVERS, "start", service, "--dir", self.dir], capture_output=True, text=True, check=True,
                              env={**os.environ, "HOME": os.path.expanduser("~root")}).stdout
        said = dict(line.split("=", 1) for line in text.splitlines())
        self.endpoints = said[f"{service}_endpoints"]
        self.passwd = said[f"{service}_credentials"]
        self.ca = said.get(f"{service}_ca")
        self.region = "eu-test-1" if self.ca else "us-east-1"
        self.pids = [int(p) for p in said[f"{service}_pids"].split(",")]
        with open(self.passwd, encoding="utf-8") as file:
            self.access, self.secret = file.read().strip().split(":")
        self.name = name

    def stop(self):
        subprocess.run([SERVERS, "stop", "--dir", self.dir], check=True)

    def conf(self, more=""):
        """The lines of a .conf's [volume] that name it."""
        return (f"objects = s3\nendpoint = {self.endpoints}\nbucket = {self.name}\npasswd_file = {self.passwd}\n{more}")

    def request(self, method, key="", query="", body=b"", headers=(), node=0, service="s3"):
        scheme, _, host = self.endpoints.split(",")[node].partition("://")
        path = "/" + urllib.parse.quote(f"{self.name}/{key}", safe="/-_.~") if service == "s3" else "/"
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        payload = hashlib.sha256(body).hexdigest()
        head = {"host": host, "x-amz-content-sha256": payload, "x-amz-date": stamp, **dict(headers)}
        names = ";".join(sorted(head))
        text = "\n".join([method, path, query, *(f"{k}:{head[k]}" for k in sorted(head)), "", names, payload])
        scope = f"{stamp[:8]}/{self.region}/{service}/aws4_request"
        sign = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(text.encode()).hexdigest()])
        k = ("AWS4" + self.secret).encode()
        for part in (stamp[:8], self.region, service, "aws4_request"):
            k = hmac.new(k, part.encode(), hashlib.sha256).digest()
        head["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.access}/{scope}, SignedHeaders={names}, "
                                 f"Signature={hmac.new(k, sign.encode(), hashlib.sha256).hexdigest()}")
        url = f"{scheme}://{host}{path}" + (f"?{query}" if query else "")
        context = ssl.create_default_context(cafile=self.ca) if self.ca else None
        with urllib.request.urlopen(urllib.request.Request(url, data=body or None, method=method, headers=head), timeout=60,
                                    context=context) as reply:
            return reply.read()

    def session(self):
        """Keys for a while: (access key, secret key, token)."""
        body = b"Action=AssumeRole&Version=2011-06-15&DurationSeconds=3600"
        xml = self.request("POST", body=body, headers={"content-type": "application/x-www-form-urlencoded"}, service="sts").decode()
        return tuple(html.unescape(re.search(f"<{n}>(.*?)</{n}>", xml).group(1))
                     for n in ("AccessKeyId", "SecretAccessKey", "SessionToken"))

    def get(self, key):
        """The bytes on top of a key; None: nothing is there."""
        try:
            return self.request("GET", key)
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise

    def keys(self, prefix=""):
        """As a listing shows them, without what is massfs's own."""
        found, token = [], ""
        while True:
            query = {"encoding-type": "url", "list-type": "2", "max-keys": "1000"}
            if prefix:
                query["prefix"] = prefix
            if token:
                query["continuation-token"] = token
            text = "&".join(f"{k}={urllib.parse.quote(query[k], safe='-_.~')}" for k in sorted(query))
            xml = self.request("GET", query=text).decode()
            found += [urllib.parse.unquote_plus(html.unescape(k)) for k in re.findall("<Key>(.*?)</Key>", xml)]
            token = html.unescape((re.findall("<NextContinuationToken>(.*?)</", xml) or [""])[0])
            if not token:
                return sorted(k for k in found if not k.startswith(f"{prefix}.massfs/"))

    def count_versions(self, key):
        """Of exactly this key: (versions, markers), of at most 1,000."""
        query = f"encoding-type=url&max-keys=1000&prefix={urllib.parse.quote(key, safe='-_.~')}&versions="
        xml = self.request("GET", query=query).decode()
        count = {"Version": 0, "DeleteMarker": 0}
        for kind, body in re.findall(r"<(Version|DeleteMarker)>(.*?)</\1>", xml, re.S):
            if urllib.parse.unquote_plus(html.unescape(re.search("<Key>(.*?)</Key>", body).group(1))) == key:
                count[kind] += 1
        return count["Version"], count["DeleteMarker"]

    def all_versions(self, prefix=""):
        """(key, version) of everything below the prefix, massfs's own as well; no markers."""
        found, query = [], {"encoding-type": "url", "max-keys": "1000", "prefix": prefix, "versions": ""}
        while True:
            text = "&".join(f"{k}={urllib.parse.quote(query[k], safe='-_.~')}" for k in sorted(query))
            xml = self.request("GET", query=text).decode()
            found += [(urllib.parse.unquote_plus(html.unescape(re.search("<Key>(.*?)</Key>", body).group(1))),
                       re.search("<VersionId>(.*?)</VersionId>", body).group(1))
                      for body in re.findall("<Version>(.*?)</Version>", xml, re.S)]
            if "<IsTruncated>true<" not in xml:
                return found
            key, version = (html.unescape(re.search(f"<{n}>(.*?)</{n}>", xml).group(1)) for n in ("NextKeyMarker", "NextVersionIdMarker"))
            query["key-marker"], query["version-id-marker"] = urllib.parse.unquote_plus(key), version
