#!/bin/sh
# Which layer may include which, and which file may see which library.
# usage: check-layers.sh SOURCE_DIR; prints each offence, exits 1 if any.
# --self-test: shows on a made-up tree that it finds what it should.
set -eu

check() {
	cd "$1"
	bad=0
	deny '^common/'  '"(backend|meta|fs|tools)/' 'common/ stands alone'
	deny '^backend/' '"(meta|fs|tools)/'         'backend/ sees common/ only'
	deny '^meta/'    '"(backend|fs|tools)/'      'meta/ sees common/ only'
	deny '^fs/'      '"tools/'                   'fs/ sees no tool'
	deny '^tools/'   '"(backend/(localdir|s3_)|meta/sqlite)' 'tools/ sees the seams, not what is behind them'
	deny '^fs/'      '"(backend/(localdir|s3_)|meta/sqlite)' 'fs/ sees the seams, not what is behind them'
	deny '^(common|backend|meta|fs|tools)/' '"tests/' 'nothing of the product sees tests'
	# Third-party headers, each in one place. find lists every file, so the pattern names all but the allowed ones.
	only '^fs/fuse/'      '[<"]fuse'    'libfuse: fs/fuse/ only'
	only '^meta/sqlite_'  '<sqlite3'    'SQLite: meta/sqlite_* only'
	only '^common/conf'   '<ini\.h'     'libinih: common/conf* only'
	only '^backend/s3_'   '<(curl/|expat)' 'libcurl, expat: backend/s3_* only'
	only '^(backend/s3_|meta/(redis|mongo)_)' '<openssl/' 'OpenSSL: backend/s3_*, meta/redis_*, meta/mongo_* only'
	only '^meta/redis_'   '<hiredis/'   'hiredis: meta/redis_* only'
	only '^fs/mime'       '<magic'      'libmagic: fs/mime only'
	return "$bad"
}

files() {
	find common backend meta fs tools -name '*.[ch]' 2>/dev/null
}

report() {
	if [ -n "$1" ]; then
		printf '%s\n    ^ %s\n' "$1" "$2"
		bad=1
	fi
}

# deny FILES-REGEX INCLUDE-REGEX WHY
deny() {
	report "$(files | grep -E "$1" |
		xargs -r grep -HnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*$2" || :)" "$3"
}

# only FILES-REGEX INCLUDE-REGEX WHY: no other file may
only() {
	report "$(files | grep -vE "$1" |
		xargs -r grep -HnE "^[[:space:]]*#[[:space:]]*include[[:space:]]*$2" || :)" "$3"
}

offend() { # FILE INCLUDE
	t=$(mktemp -d)
	mkdir -p "$t/common" "$t/backend" "$t/meta" "$t/fs/fuse" "$t/tools"
	printf '#include %s\n' "$2" >"$t/$1"
	if (check "$t" >/dev/null); then found=no; else found=yes; fi
	rm -r "$t"
}

self_test() {
	r=0
	for case in common/a.c:'"meta/node.h"' backend/a.c:'"meta/node.h"' meta/a.h:'"backend/object_store.h"' \
		fs/a.c:'"meta/sqlite_engine.h"' fs/a.c:'<fuse_lowlevel.h>' tools/a.c:'<sqlite3.h>' meta/mem.c:'<sqlite3.h>' \
		common/str.c:'<ini.h>' fs/a.c:'"tools/tool.h"' fs/a.c:'<curl/curl.h>' fs/a.c:'"backend/s3_http.h"'; do
		offend "${case%%:*}" "${case#*:}"
		[ "$found" = yes ] || { echo "self-test: not found: $case"; r=1; }
	done
	for case in fs/fuse/a.c:'<fuse_lowlevel.h>' meta/sqlite_engine.c:'<sqlite3.h>' common/conf_file.c:'<ini.h>' \
		fs/a.c:'"meta/engine.h"' tools/a.c:'"fs/mount.h"'; do
		offend "${case%%:*}" "${case#*:}"
		[ "$found" = no ] || { echo "self-test: wrongly found: $case"; r=1; }
	done
	return $r
}

case "$1" in
--self-test) self_test ;;
*) self_test && check "$1" ;;
esac
