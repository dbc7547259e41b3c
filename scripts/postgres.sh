# shellcheck shell=bash
# Sourced by scripts and tests after packages.sh: a throw-away PostgreSQL for the tests.

# The folder of the running cluster, its programs, and the words that run them as a user who is not root.
POSTGRES_FOLDER=
POSTGRES_TOOLS=
POSTGRES_AS=()

# find_postgres: set POSTGRES_TOOLS to a folder with initdb and pg_ctl; fails when there is none.
find_postgres() {
  local folder
  for folder in "$(dirname "$(readlink -f "$(command -v initdb || echo /nowhere/initdb)")")" /usr/lib/postgresql/*/bin; do
    if [[ -x $folder/initdb && -x $folder/pg_ctl ]]; then
      POSTGRES_TOOLS=$folder
      return 0
    fi
  done
  return 1
}

# install_postgres: install the server programs without the server that the package would start.
install_postgres() {
  apt_install postgresql-common || return 1
  echo 'create_main_cluster = false' >>/etc/postgresql-common/createcluster.conf
  apt_install postgresql
}

need_postgres() {
  find_postgres || { install_postgres && find_postgres; } ||
    missing "PostgreSQL (initdb, pg_ctl)" "apt-get install postgresql"
}

# free_port: a port of 127.0.0.1 that nobody listens on now.
free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# create_cluster: a fresh cluster in POSTGRES_FOLDER, owned by a user as whom PostgreSQL agrees to run.
create_cluster() {
  local user
  POSTGRES_FOLDER=$(mktemp -d /tmp/freellmapi-postgres.XXXXXX)
  if [[ $(id -u) == 0 ]]; then
    user=postgres
    id "$user" >/dev/null 2>&1 || user=nobody
    chown "$user" "$POSTGRES_FOLDER"
    POSTGRES_AS=(setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups
      env -C "$POSTGRES_FOLDER" "HOME=$POSTGRES_FOLDER")
  fi
  "${POSTGRES_AS[@]}" "$POSTGRES_TOOLS/initdb" -D "$POSTGRES_FOLDER/data" -U postgres \
    --auth=trust --encoding=UTF8 --locale=C --no-sync >"$POSTGRES_FOLDER/initdb.log"
}

# start_postgres: start a fresh cluster on a free loopback port and export FREELLMAPI_TEST_POSTGRES.
# Durability is off: the cluster is thrown away, and so are its data after a crash.
start_postgres() {
  local port options tries
  need_postgres
  create_cluster || return 1
  # A port that is free now may be taken a moment later: then another one is tried.
  for tries in 1 2 3; do
    port=$(free_port)
    options="-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c max_connections=200"
    options+=" -c fsync=off -c synchronous_commit=off -c full_page_writes=off"
    if "${POSTGRES_AS[@]}" "$POSTGRES_TOOLS/pg_ctl" start --silent --wait -D "$POSTGRES_FOLDER/data" \
      -l "$POSTGRES_FOLDER/server.log" -o "$options" </dev/null; then
      echo "==> throw-away PostgreSQL on port $port, in $POSTGRES_FOLDER"
      export FREELLMAPI_TEST_POSTGRES="postgres://postgres@127.0.0.1:$port/postgres"
      return 0
    fi
    echo "PostgreSQL did not start (attempt $tries of 3):" >&2
    tail -n 5 "$POSTGRES_FOLDER/server.log" >&2
  done
  return 1
}

# stop_postgres: end the cluster and remove it; does nothing when none was started.
stop_postgres() {
  [[ -n $POSTGRES_FOLDER ]] || return 0
  if [[ -e $POSTGRES_FOLDER/data/postmaster.pid ]]; then
    "${POSTGRES_AS[@]}" "$POSTGRES_TOOLS/pg_ctl" stop --silent --wait -m immediate \
      -D "$POSTGRES_FOLDER/data" </dev/null || true
  fi
  rm -rf "$POSTGRES_FOLDER"
  POSTGRES_FOLDER=
}
