"""Bundles taken apart and put together again, for tests: a list of members, written by Python's own tarfile."""
import hashlib
import io
import json
import tarfile

FRONT = ("README", "manifest.json", "manifest.json.sha256")


class Bundle:
    """members: (TarInfo, bytes or None), in their order; manifest: the JSON."""

    def __init__(self, data):
        self.members = []
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for info in tar:
                self.members.append((info, tar.extractfile(info).read() if info.isreg() else None))
        self.manifest = json.loads(self.content("manifest.json"))

    def content(self, name):
        return next(data for info, data in self.members if info.name == name)

    def at(self, end):
        """Index of the member whose name ends so."""
        (index,) = [i for i, (info, _) in enumerate(self.members) if info.name.endswith(end)]
        return index

    def names(self):
        return [info.name for info, _ in self.members]

    def version(self, number=1):
        return next(v for v in self.manifest["models"][0]["versions"] if v["number"] == number)

    def entry(self, path, number=1):
        return next(e for e in self.version(number)["entries"] if e.get("path") == path)

    def pack(self, manifest_text=None, sum_text=None, format=tarfile.PAX_FORMAT):
        """The archive; the manifest anew unless its text is given, and its sum with it."""
        text = manifest_text if manifest_text is not None else json.dumps(self.manifest).encode()
        sum_text = sum_text if sum_text is not None else (hashlib.sha256(text).hexdigest() + "  manifest.json\n").encode()
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format) as tar:
            for info, data in self.members:
                data = {"manifest.json": text, "manifest.json.sha256": sum_text}.get(info.name, data)
                if data is not None:
                    info.size = len(data)
                tar.addfile(info, io.BytesIO(data) if data is not None else None)
        return out.getvalue()


def file_member(name, data=b"", **attrs):
    info = tarfile.TarInfo(name)
    for key, value in attrs.items():
        setattr(info, key, value)
    return info, data if info.isreg() else None
