#!/bin/sh
# Installs the dockmesh agent on this Docker host:
#   curl -fsS SERVER/agent/install | sh -s -- dme_…
# and takes it away again:
#   curl -fsS SERVER/agent/install | sh -s -- --uninstall
# It fetches the agent, one Python file, checks it, and lets it install itself as a systemd service: into
# /opt/dockmesh-agent, /etc/dockmesh and /var/lib/dockmesh-agent. Run again, it puts the server's version in the place
# of the one that is there.
set -eu

SERVER=@SERVER@
SHA256=@SHA256@
INSTALLED=/opt/dockmesh-agent/dockmesh-agent.pyz

usage() {
    cat <<'EOF'
Usage: sh -s -- [dme_… | --enrollment-token-file FILE] [options]

  --name NAME         the host's name on the server (default: its host name)
  --label KEY=VALUE   a label of the host; repeatable
  --server URL        the server's address, if it is another one than the script was fetched from
  --ca-file FILE      PEM certificates to trust for the server
  --docker-host URL   Docker's address
  --monitor-only      report, and refuse all commands
  --renew             enrol again with the token although the host is enrolled
  --dry-run           say what would be done, and do nothing
  --uninstall         stop and remove the agent
EOF
}

fail() {
    printf 'dockmesh-agent: %s\n' "$1" >&2
    exit 1
}

need_root() {
    [ "$dry_run" = yes ] || [ "$(id -u)" = 0 ] || fail "this needs root: put sudo before sh"
}

need_python() {
    python=$(command -v python3) || fail "Python is missing: install python3 (3.9 or newer)"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
        fail "Python 3.9 or newer is needed; $python is $("$python" --version 2>&1)"
}

fetch() {
    if command -v curl >/dev/null; then
        curl -fsSL ${ca_file:+--cacert "$ca_file"} -o "$2" "$1"
    elif command -v wget >/dev/null; then
        wget -q ${ca_file:+--ca-certificate="$ca_file"} -O "$2" "$1"
    else
        fail "curl or wget is needed"
    fi
}

check() {
    found=$("$python" -c 'import hashlib, sys; print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest())' "$1")
    [ "$found" = "$SHA256" ] ||
        fail "the agent's file has the SHA-256 $found, and $SHA256 was expected; nothing was installed. Fetch this script anew."
}

# All that is done is done by this, which is called at the very end: a part of the script does nothing.
main() {
    dry_run=no uninstall=no ca_file='' token='' server=$SERVER
    # What goes to the agent's own install: "$@" is built anew, so that blanks in values stay.
    count=$#
    while [ "$count" -gt 0 ]; do
        option=$1
        shift
        count=$((count - 1))
        case $option in
            -h | --help) usage; exit 0 ;;
            --uninstall) uninstall=yes ;;
            --dry-run) dry_run=yes; set -- "$@" "$option" ;;
            --monitor-only | --renew) set -- "$@" "$option" ;;
            --server | --ca-file | --name | --label | --docker-host | --enrollment-token-file)
                [ "$count" -gt 0 ] || fail "$option needs a value"
                case $option in
                    --server) server=${1%/} ;;
                    --ca-file) ca_file=$1; set -- "$@" "$option" "$1" ;;
                    *) set -- "$@" "$option" "$1" ;;
                esac
                shift
                count=$((count - 1))
                ;;
            dme_*) token=$option ;;
            *) usage >&2; fail "unknown: $option" ;;
        esac
    done
    need_root
    need_python
    if [ "$uninstall" = yes ]; then
        [ -e "$INSTALLED" ] || fail "no agent is installed here ($INSTALLED is not there)"
        if [ "$dry_run" = yes ]; then
            exec "$python" "$INSTALLED" uninstall --dry-run
        fi
        exec "$python" "$INSTALLED" uninstall
    fi
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    file=$folder/dockmesh-agent.pyz
    # The token's id, which is no secret: the page of the new host says that this much went well.
    id=${token#dme_}
    id=${id%%_*}
    fetch "$server/agent/dockmesh-agent.pyz${id:+?for=$id}" "$file" ||
        fail "$server/agent/dockmesh-agent.pyz can't be fetched"
    check "$file"
    # In the environment, where only root can read it, never in an argument.
    if [ -n "$token" ]; then
        export DOCKMESH_AGENT_ENROLLMENT_TOKEN="$token"
    fi
    "$python" "$file" install --server "$server" "$@"
}

{ main "$@"; }
