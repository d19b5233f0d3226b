"""One digest over a whole version (docs/SPEC.md): the same tree gives the same one wherever it is made; and what a version tells of itself."""
import hashlib
import json
import os
import stat

import pytest

from drive import attr, attrs, commit, mintfs, read, sh, state, write

DATA = "dataset/mol"


def digest(top):
    """As docs/SPEC.md has it."""
    top, records = os.fsencode(top), []
    for here, dirs, files in os.walk(top):
        for path in (os.path.join(here, name) for name in dirs + files):
            name, st = os.path.relpath(path, top), os.lstat(path)
            kind = "l" if stat.S_ISLNK(st.st_mode) else "d" if stat.S_ISDIR(st.st_mode) else "f"
            data = os.readlink(path) if kind == "l" else open(path, "rb").read() if kind == "f" else b""
            if name != b"metadata.json" or kind != "f" or not data.startswith(b'{\n  "generated_by": "mintfs",'):
                records.append((name, f"{kind} {'x' if kind == 'f' and st.st_mode & 0o100 else '-'} {len(data)} "
                                f"{'-' if kind == 'd' else hashlib.sha256(data).hexdigest()} ".encode() + name + b"\0"))
    return hashlib.sha256(b"mintfs tree 1\n" + b"".join(record for _, record in sorted(records))).hexdigest()


def fill(top):
    """Names that sort differently as paths, by component and by locale; an empty directory, links, a hard link, an executable."""
    for path in ("a/c", "a.b", "a0", "B", "ä", "sub/deep/er", "with blank\nand line"):
        os.makedirs(os.path.dirname(top / path), exist_ok=True)
        write(top / path, b"content of " + os.fsencode(path))
    os.mkdir(top / "empty")
    os.symlink("a.b", top / "link")
    os.symlink("nowhere/at all", top / "sub/dangling")
    os.link(top / "a0", top / "sub/hard")
    os.chmod(top / "B", 0o755)


def test_the_digest_is_that_of_the_definition_and_of_the_tree_outside(drive, house):
    outside = house.folder / "tree"
    outside.mkdir()
    fill(outside)
    v = drive.mint(DATA)
    fill(v)
    commit(v)
    assert attr(v, "digest") == digest(v) == digest(outside)
    assert json.loads(mintfs("show", v, "--json").stdout)["digest"] == digest(outside)
    assert digest(outside) in mintfs("show", v).stdout


def test_owner_times_and_umask_do_not_change_the_digest_but_content_name_and_execute_bit_do(drive):
    def version(script):
        v = drive.mint(DATA)
        sh("umask %s" % script, cwd=v)
        commit(v)
        return attr(v, "digest")

    base = version("022; echo 1 > x; mkdir d")
    assert version("077; echo 1 > x; mkdir d; touch -d 2001-01-01 x d; chown 12:34 x") == base
    others = [version(s) for s in ("022; echo 2 > x; mkdir d", "022; echo 1 > y; mkdir d", "022; echo 1 > x; chmod u+x x; mkdir d", "022; echo 1 > x",
                                   "022; echo 1 > x; mkdir d d/e", "022; echo 1 > x; ln -s 1 y; mkdir d")]
    assert len({base, *others}) == 7


def test_a_metadata_json_of_mintfs_is_no_part_of_the_digest_and_one_of_the_trainer_is(drive):
    def version(files):
        v = drive.mint(DATA)
        for name, data in files.items():
            write(v / name, data)
        commit(v)
        return v

    one, two = version({"a": b"1"}), version({"a": b"1"})
    assert read(one / "metadata.json") != read(two / "metadata.json")
    assert attr(one, "digest") == attr(two, "digest") == digest(one)
    copy = version({"a": b"1", "metadata.json": read(one / "metadata.json")})
    assert attr(copy, "digest") == attr(one, "digest") == digest(copy)
    own = version({"a": b"1", "metadata.json": b'{"description": "by hand"}'})
    assert attr(own, "digest") == digest(own) != attr(one, "digest")


def test_digest_is_of_versions_only_and_cannot_be_set(drive):
    v = drive.mint(DATA)
    write(v / "a", b"1")
    assert attr(v, "digest") is None  # a draft
    commit(v)
    assert "digest" in attrs(v) and "digest" not in attrs(v / "a")
    before = attr(v, "digest")
    os.setxattr(v, "user.mintfs.digest", b"0" * 64)  # generated: no error, no effect
    assert attr(v, "digest") == before


# ---- metadata.json ----

TELLS = {"description": "assays of 2026", "maintainer": "ann", "source": "ChEMBL 34", "metrics": {"rmse": 1.5}, "params": {"split": {"seed": 7}},
         "labels": {"rows": 4400, "features": 12, "kind": "assay", "clean": True, "none": None, "many": [1, 2], "deep": {"er": "x"}}}


def test_show_tells_what_metadata_json_says_of_itself(drive):
    v = drive.committed(DATA, {"a.csv": b"1", "metadata.json": json.dumps(TELLS).encode()})
    shown = json.loads(mintfs("show", v, "--json").stdout)
    assert {k: shown[k] for k in ("description", "maintainer", "source", "labels", "metrics")} == {k: TELLS[k] for k in
                                                                                                  ("description", "maintainer", "source", "labels", "metrics")}
    assert shown["parameters"] == TELLS["params"] and shown["author"] == "root" and shown["created"] and shown["file_count"] == 2
    text = mintfs("show", v).stdout
    for word in ("assays of 2026", "ann", "ChEMBL 34", "deep.er", "4400"):
        assert word in text


@pytest.mark.parametrize("text", ['{"labels": ["cat", "dog"]}', '{"labels": 7, "description": {"no": "text"}}', '{"labels": {"": 1, "a": {"": {"b": 2}}}}',
                                  '{"labels": {"x": %s}}' % ("[" * 190 + "]" * 190), '{"labels": {"%s": 1}}' % ("k" * 300), '{"params": {"t": "%s"}}' % ("v" * 5000)])
def test_labels_of_another_shape_are_no_reason_to_refuse_a_commit(drive, text):
    v = drive.mint(DATA)
    write(v / "metadata.json", text.encode())
    commit(v)
    assert state(v) == "committed" and json.loads(mintfs("show", v, "--json").stdout)["state"] == "committed"
