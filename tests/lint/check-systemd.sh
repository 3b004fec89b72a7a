#!/bin/sh
# The example units are named after their Where= and systemd-analyze verify has nothing to say about them; the fstab
# lines have six fields.
# usage: check-systemd.sh SOURCE_DIR. Exit 77: systemd-analyze is not here.
set -eu
cd "$1/systemd"
command -v systemd-analyze >/dev/null || exit 77
bad=0
for unit in *.mount *.automount; do
	where=$(sed -n 's/^Where=//p' "$unit")
	if [ "$(systemd-escape --path "$where").${unit##*.}" != "$unit" ]; then
		echo "$unit: not the name that Where=$where asks for"
		bad=1
	fi
	# Away from the build: verify wants units with all that they name, beside them.
	out=$(SYSTEMD_UNIT_PATH="$PWD:" systemd-analyze verify --man=no "$PWD/$unit" 2>&1) || bad=1
	if printf '%s\n' "$out" | grep -F "$unit"; then bad=1; fi
done
sed 's/^#\(vol\)/\1/' fstab.example | grep -v '^#' | grep . | while read -r source dir type options dump pass rest; do
	if [ "$type" != massfs ] || [ "$dump$pass" != 00 ] || [ -n "$rest" ] || [ -z "$options" ]; then
		echo "fstab.example: $source $dir"
		exit 1
	fi
done || bad=1
exit $bad
