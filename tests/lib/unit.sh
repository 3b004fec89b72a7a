#!/bin/sh
# One unit of a long part: unit.sh STATE-FILE NAME COMMAND...; what has passed before is not run again.
state=$1 name=$2
shift 2
if done_at=$(grep -F -- "$name	" "$state" 2>/dev/null); then
	echo "passed before: $done_at"
	exit 0
fi
"$@"
rc=$?
[ $rc -ne 0 ] || printf '%s\t%s\t%s\n' "$name" "$(date -u +%FT%TZ)" "$*" >>"$state"
exit $rc
