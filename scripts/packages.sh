# shellcheck shell=bash
# Sourced by the scripts beside it: getting what they need onto the machine.

# missing WHAT HOW: say what is not there and how to get it, and end with 69 (service unavailable).
missing() {
  echo "$0: $1 is missing: $2" >&2
  exit 69
}

# apt_install PACKAGE...: install them if this is Debian and we are root; fails otherwise.
apt_install() {
  [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null || return 1
  echo "==> apt-get install $*"
  apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# need COMMAND PACKAGE: the command exists, or is installed, or its absence ends the run.
need() {
  command -v "$1" >/dev/null || apt_install "$2" || missing "$1" "apt-get install $2"
}

# need_rust: cargo exists; distributions ship one that is too old, so it is not installed for you.
need_rust() {
  command -v cargo >/dev/null || missing cargo "install Rust with rustup (see rust-version in Cargo.toml)"
  need cc build-essential
}

# need_python: python3 exists, is recent enough for the pinned packages, and can make venvs.
need_python() {
  need python3 python3
  python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || missing "Python 3.11" "python3 is older"
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3-venv ||
    missing "Python's venv" "apt-get install python3-venv"
}

# ensure_venv FOLDER REQUIREMENTS: FOLDER is a venv with exactly the pinned packages of REQUIREMENTS.
# The list is complete, hence --no-deps; a changed list makes a new venv.
ensure_venv() {
  local folder=$1 requirements=$2
  if cmp -s "$requirements" "$folder/requirements.installed"; then
    return
  fi
  echo "==> Python packages of $requirements"
  rm -rf "$folder"
  python3 -m venv "$folder" &&
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps -r "$requirements" &&
    cp "$requirements" "$folder/requirements.installed"
}

# ensure_node_modules FOLDER: FOLDER has exactly the packages of its lock file.
ensure_node_modules() {
  local folder=$1
  if cmp -s "$folder/package-lock.json" "$folder/node_modules/installed-lock.json"; then
    return
  fi
  echo "==> Node packages of $folder"
  npm ci --loglevel=error --prefix "$folder" &&
    cp "$folder/package-lock.json" "$folder/node_modules/installed-lock.json"
}

# target_folder: where cargo builds to, however that was set.
target_folder() {
  cargo metadata --format-version 1 --no-deps --locked |
    python3 -c 'import json, sys; print(json.load(sys.stdin)["target_directory"])'
}
