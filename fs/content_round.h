/* One commit of a file's content: what content_commit.c (its course) and content_store.c (what is stored for it) share. */
#ifndef MASSFS_FS_CONTENT_ROUND_H
#define MASSFS_FS_CONTENT_ROUND_H

#include "fs/content_internal.h"

enum round_kind { ROUND_INLINE, ROUND_WHOLE, ROUND_STAGED, ROUND_PATCH };

/* What one commit takes along. */
struct round {
	enum round_kind kind;
	struct state *from, *next; /* what it is built from, and what the record shall say */
	uint64_t size;
	uint64_t clip;
	int64_t mtime;
	bool partial;	   /* more is dirty than one commit takes */
	bool keep_version;
	bool asked;	   /* the index was: an object may be named by it */
	bool overtaken;	   /* somebody's change of the layout came between, be it only a settle */
	bool rebased;	   /* another mount's content came between */
	bool refused;	   /* by storage rules: kept aside, and not in the record */
	bool rest_frozen;  /* ROUND_STAGED: what is in `sending` is the commit's, no upload job has it */
	bool stored, at_gate; /* gate: of key, from before the object is there until the record names it (fs/key_gate.h) */
	struct object_info info;
	struct mfs_buf key;
	bool temporary;
	struct patch patch;
	uint64_t alloc;
	char mime[MIME_MAX]; /* of what became an object: of inline bytes it is found when they settle */
};

/* The gate of the object's key (fs/key_gate.h). leave: nothing, if it is not there. */
void round_gate_enter(struct content *c, struct round *rd);
void round_gate_leave(struct content *c, struct round *rd);
/* What must be there before the record names it; rd->next says what the record shall. The caller is busy. */
int round_store(struct content *c, struct op_ctx *op, struct round *rd) MFS_NODISCARD;

#endif
