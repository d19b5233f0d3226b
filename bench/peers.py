"""What else one could keep versions in: the usual programs of the distribution, each with the settings that make it fastest here (no compression, no
encryption), followed by a sync where it does not make things durable itself."""
from pathlib import Path

from harness import copy, disk_usage, remove, run, sync

ENV = {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_AUTHOR_NAME": "bench", "GIT_AUTHOR_EMAIL": "bench@localhost", "GIT_COMMITTER_NAME": "bench",
    "GIT_COMMITTER_EMAIL": "bench@localhost", "RESTIC_PASSWORD": "bench", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
    "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes",
}


class Peer:
    """One repository. put() stores a directory as one version, durably."""

    name = program = package = ""
    kept = False
    trees = True  # worth trying with thousands of small files

    def __init__(self, folder):
        self.folder = Path(folder)
        self.repo = self.folder / "repo"
        self.folder.mkdir(parents=True)
        self.env = {**ENV, "HOME": str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache"), "BORG_BASE_DIR": str(self.folder / "borg")}
        self.init()

    def do(self, *argv, cwd=None):
        return run(*argv, cwd=cwd, env=self.env)

    def put(self, source, tag):
        self.store(source, tag)
        sync(self.folder)

    def size(self):
        return disk_usage(self.repo)

    def close(self):
        if self.kept:
            return
        run("chmod", "-R", "u+w", self.folder)
        remove(self.folder)


class Ostree(Peer):
    name = program = package = "ostree"

    def init(self):
        self.do("ostree", "init", "--mode=bare", f"--repo={self.repo}")

    def store(self, source, tag):
        self.do("ostree", "commit", f"--repo={self.repo}", "-b", "versions", "-s", tag, f"--tree=dir={source}")


class Restic(Peer):
    name = program = package = "restic"

    def init(self):
        self.do("restic", "init", "--repository-version", "2", "-r", self.repo)

    def store(self, source, tag):
        self.do("restic", "backup", "-q", "--compression", "off", "-r", self.repo, ".", cwd=source)


class Borg(Peer):
    name, program, package = "borg", "borg", "borgbackup"

    def init(self):
        self.do("borg", "init", "-e", "none", self.repo)

    def store(self, source, tag):
        self.do("borg", "create", "--compression", "none", f"{self.repo}::{tag}", ".", cwd=source)


class Casync(Peer):
    name = program = package = "casync"

    def init(self):
        self.repo.mkdir()

    def store(self, source, tag):
        self.do("casync", "make", "--without=privileged", f"--store={self.repo}/store.castr", self.repo / f"{tag}.caidx", source)


class Squashfs(Peer):
    """An image for each version: no store, nothing shared between versions."""

    name, program, package = "squashfs", "mksquashfs", "squashfs-tools"

    def init(self):
        self.repo.mkdir()

    def store(self, source, tag):
        self.do("mksquashfs", source, self.repo / f"{tag}.sqfs", "-quiet", "-no-progress", "-noI", "-noD", "-noF", "-noX")


class GitLfs(Peer):
    name = program = package = "git-lfs"
    trees = False

    def init(self):
        self.do("git", "init", "-q", self.repo)
        self.do("git", "lfs", "install", "--local", cwd=self.repo)
        self.do("git", "lfs", "track", "*.pth", "*.bin", "*.png", cwd=self.repo)

    def store(self, source, tag):
        copy(source, self.repo)
        self.do("git", "add", "-A", cwd=self.repo)
        self.do("git", "commit", "-q", "-m", tag, cwd=self.repo)


class GitAnnex(Peer):
    name = program = package = "git-annex"
    trees = False

    def init(self):
        self.do("git", "init", "-q", self.repo)
        self.do("git", "annex", "init", "-q", "bench", cwd=self.repo)

    def store(self, source, tag):
        run("cp", "-r", "--remove-destination", f"{source}/.", self.repo)
        self.do("git", "annex", "add", "-q", "--force-large", ".", cwd=self.repo)
        self.do("git", "commit", "-q", "-m", tag, cwd=self.repo)


ALL = (Squashfs, Borg, Ostree, GitAnnex, Restic, GitLfs, Casync)


def installed(bench, trees=False):
    return [p for p in ALL if bench.has(p.program, p.package) and (p.trees or not trees)]
