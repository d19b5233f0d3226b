# shellcheck shell=bash disable=SC2034,SC2154
# What quickstart and test share: steps, their log, packages. Sourced by bash; the caller sets `log` before the first quiet.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
self=${0##*/}
step=start

say() { printf '%s\n' "$*"; }
note() { printf '%-12s %s\n' "$1" "$2"; }
fail() { printf '%s: %s\n' "$self" "$*" >&2; exit 1; }

# Runs a command with its output in the log. Where it fails, the end of the log is shown and the script ends.
quiet() { # step command…
	local status=0 from
	step=$1
	shift
	printf '\n## %s: %s\n' "$step" "$*" >>"$log"
	from=$(wc -l <"$log")
	"$@" >>"$log" 2>&1 </dev/null || status=$?
	[ "$status" -eq 0 ] && return 0
	tail -n +$((from + 1)) "$log" | tail -n 25 >&2
	printf '%s: the step "%s" failed (exit %d); its whole output is in %s\n' "$self" "$step" "$status" "$log" >&2
	exit 1
}

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo "$@"
	fi
}

# Has apt a version of the package? Its lists are fetched where there are none yet.
apt_offers() { # package
	[ -n "$(apt-cache madison apt 2>/dev/null)" ] || quiet "apt-get update" as_root apt-get -o DPkg::Lock::Timeout=120 update
	[ -n "$(apt-cache madison "$1")" ]
}

has_module() { # python module
	"$1" -c 'import sys, importlib.util; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)' "$2" 2>/dev/null
}

# Installs what is missing of the packages, by apt. Asks for nothing; an ordinary user needs sudo.
need_packages() {
	local p missing=()
	command -v dpkg-query >/dev/null || fail "this script knows apt only (Debian 12 or 13, Ubuntu 24.04); here, install the like of: $*"
	for p; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
	done
	[ ${#missing[@]} -eq 0 ] && return 0
	note packages "installing ${missing[*]}"
	if [ "$(id -u)" -ne 0 ] && ! sudo -v; then
		fail "packages are missing and sudo does not let you install them; as root: apt-get install ${missing[*]}"
	fi
	quiet "apt-get update" as_root apt-get -o DPkg::Lock::Timeout=120 update
	quiet "apt-get install" as_root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends "${missing[@]}"
}
