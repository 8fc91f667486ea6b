# Becomes nobody, without a capability, in a view of its own: the code can only be read, and of the closed folder that
# Python may lie in (a home of root) only Python is seen. $1 user, $2 scratch folder, $3 code, $4 Python's prefix,
# $5 the closed folder above it or "", then the program.
set -e
user=$1 scratch=$2 code=$3 prefix=$4 closed=$5
shift 5
mount --make-rprivate / 2>/dev/null || true
if [ -n "$closed" ]; then
    mkdir -p "$scratch/python"
    mount --bind "$prefix" "$scratch/python"
    mount -t tmpfs -o mode=755 none "$closed"
    mkdir -p "$prefix"
    mount --bind "$scratch/python" "$prefix"
fi
mount --bind "$code" "$code"
mount -o remount,bind,ro "$code"
cd /
exec setpriv --reuid="$user" --regid="$user" --clear-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all \
    --no-new-privs "$@"
