"""Writes a container image as an archive in the form of `docker save`, from a
base file system (a tar archive, or none) and files that are added to it.

usage: image.py OUTPUT NAME BASE.tar|- USER ENTRYPOINT-JSON [FILE=PATH...]

The archive does not depend on time or place. Equal inputs give equal layers,
and a runtime that has a layer does not unpack it again.
"""

import hashlib
import io
import json
import os
import sys
import tarfile


def layer_of(files):
    """A tar archive with the files at their paths, all executable and owned by root."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        folders = set()
        for source, path in files:
            parts = path.strip("/").split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo("/".join(parts))
            entry.size, entry.mode = os.path.getsize(source), 0o755
            with open(source, "rb") as content:
                tar.addfile(entry, content)
    return data.getvalue()


def main():
    output, name, base, user, entrypoint, *pairs = sys.argv[1:]
    files = [pair.split("=", 1) for pair in pairs]
    for pair in files:
        if len(pair) != 2 or not pair[1].startswith("/"):
            sys.exit(f"'{'='.join(pair)}' is not FILE=PATH with an absolute PATH in the image")
        if not os.path.isfile(pair[0]):
            sys.exit(f"there is no file {pair[0]} to put into the image")
    layers = []
    if base != "-":
        with open(base, "rb") as content:
            layers.append(content.read())
    if files:
        layers.append(layer_of(files))
    digests = [hashlib.sha256(layer).hexdigest() for layer in layers]
    config = json.dumps(
        {
            "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
            "os": "linux",
            "config": {
                "User": user,
                "Entrypoint": json.loads(entrypoint),
                "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
                "WorkingDir": "/",
            },
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}" for digest in digests]},
        }
    ).encode()
    config_name = hashlib.sha256(config).hexdigest() + ".json"
    layer_names = [digest + ".tar" for digest in digests]
    manifest = [{"Config": config_name, "RepoTags": [name], "Layers": layer_names}]
    with tarfile.open(output, "w") as tar:
        for path, content in [
            (config_name, config),
            *dict(zip(layer_names, layers)).items(),
            ("manifest.json", json.dumps(manifest).encode()),
        ]:
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))


main()
