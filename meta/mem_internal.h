/*
 * What the files of the mem engine share. Private to meta/mem_*.
 *
 * One lock, one ordered map, every value immutable: an edit copies the record, edits the copy and puts it back, so a
 * change that fails is taken back by the map's undo log.
 *
 * Keys of the map: F ino -> node (files and trash: ATTR_IN_TRASH) · A id -> alias · N parent name NUL id (unique
 * names) · P parent pos id (listing) · L target id (aliases of) · V ino data -> version · D id -> dropped ·
 * J kind ino key -> job · C name -> cell · B ino id -> slices document · S id -> session · O session slot -> number (rule M2).
 */
#ifndef MASSFS_META_MEM_INTERNAL_H
#define MASSFS_META_MEM_INTERNAL_H

#include "common/sync.h"
#include "meta/engine.h"
#include "meta/mem_map.h"

#define MEM_WATCHERS 16

struct mem_watcher {
	struct engine *e; /* NULL: free */
	engine_news_fn fn;
	void *arg;
	bool muted;	  /* tests: its channel is cut */
	bool missed;	  /* something, while it was muted */
	int64_t muted_at; /* monotonic */
};

struct mem_shared {
	/* Held while news are told (a shortcut of this engine: its watchers call nothing), so that they come in the order of
	 * the changes. Outside of `lock`. */
	struct mfs_mutex watch_lock;
	struct mem_watcher watchers[MEM_WATCHERS];

	struct mfs_mutex lock; /* held around every function below */
	uint64_t epoch;
	struct mem_map *map;
	uint64_t next_ino;
	uint64_t next_token;
	bool formatted;
	struct volume_record volume;
};

/* Every item whose key begins with prefix. */
#define MEM_FOR_EACH(i, s, prefix)                                                                                \
	for (const struct mem_item *i = mem_map_seek((s)->map, (prefix)); mem_item_has_prefix(i, (prefix));       \
	     i = mem_item_next(i))

/* Define TYPE_value_new (a copy on the heap) and put_TYPE (into the map, which owns it then, or frees it). */
#define MEM_DEFINE_VALUE(type, record, copy_fn, release_fn)                          \
	static void type##_value_free(void *p)                                       \
	{                                                                            \
		release_fn(p);                                                       \
		free(p);                                                             \
	}                                                                            \
	static int type##_value_new(const record *from, record **ret)                \
	{                                                                            \
		record *v = calloc(1, sizeof(*v));                                   \
		int r = v ? copy_fn(from, v) : -ENOMEM;                              \
                                                                                     \
		if (r < 0) {                                                         \
			free(v);                                                     \
			return r;                                                    \
		}                                                                    \
		*ret = v;                                                            \
		return 0;                                                            \
	}                                                                            \
	static int put_##type(struct mem_map *m, const struct mem_key *k, record *v) \
	{                                                                            \
		int r = mem_map_put(m, k, v, type##_value_free);                     \
                                                                                     \
		if (r < 0)                                                           \
			type##_value_free(v);                                        \
		return r;                                                            \
	}                                                                            \
	struct mfs_semicolon_

static inline void mem_key_of(struct mem_key *k, char kind, uint64_t a)
{
	mem_key_start(k, kind);
	mem_key_u64(k, a);
}

static inline void mem_key_of_2(struct mem_key *k, char kind, uint64_t a, uint64_t b)
{
	mem_key_of(k, kind, a);
	mem_key_u64(k, b);
}

/* mem_engine.c: NULL, 0: none. */
const struct node *mem_find_node(const struct mem_shared *s, mfs_ino_t ino); /* in files or trash */
const struct node *mem_find_file(const struct mem_shared *s, mfs_ino_t ino); /* in files */
const struct alias *mem_find_alias(const struct mem_shared *s, uint64_t id);
/* The id under which the name is, of a file or an alias. */
uint64_t mem_find_name(const struct mem_shared *s, mfs_ino_t parent, const struct mfs_name *name);
int mem_key_name(struct mem_key *k, mfs_ino_t parent, const struct mfs_name *name) MFS_NODISCARD;
bool mem_string_equal(const char *a, const char *b); /* NULL equals NULL */

/* mem_write.c: inside the map's transaction, which the caller ends. */
int mem_write_change(struct mem_shared *s, const struct change *c) MFS_NODISCARD;
int mem_write_insert(struct mem_shared *s, const struct write *w) MFS_NODISCARD;

/* mem_all.c */
int mem_aliases_after(struct mem_shared *s, uint64_t after_id, struct alias *ret, size_t max) MFS_NODISCARD;
int mem_jobs_at(struct mem_shared *s, const struct job_record *from, size_t limit, struct job_list *ret) MFS_NODISCARD;
/* A copy of everything, with nothing in common with s. */
int mem_shared_copy(struct mem_shared *s, struct mem_shared **ret) MFS_NODISCARD;

/* mem_news.c. tell: what the change did, after it, with watch_lock held. */
void mem_news_tell(struct mem_shared *s, const struct change *c);
int mem_news_watch(struct mem_shared *s, struct engine *e, engine_news_fn fn, void *arg);
int64_t mem_news_last_beat(struct mem_shared *s, struct engine *e);
/* Tests: the channel of e is cut, or back (then NEWS_LOST if it missed something). */
void mem_news_mute(struct mem_shared *s, struct engine *e, bool muted);

/* mem_find.c */
int mem_find_term(struct mem_shared *s, const struct expr_term *t, mfs_ino_t after, size_t limit, struct node_list *ret) MFS_NODISCARD;
int mem_names_of_tags(struct mem_shared *s, const char *name, const void *after, size_t after_len, size_t limit,
		      struct blob_list *ret) MFS_NODISCARD;

/* mem_side.c */
int mem_write_side(struct mem_shared *s, const struct write *w) MFS_NODISCARD;
int mem_versions_where(struct mem_shared *s, const char *path, mfs_ino_t ino, struct version_list *ret) MFS_NODISCARD;
int mem_versions_until(struct mem_shared *s, int64_t now, size_t limit, struct version_list *ret) MFS_NODISCARD;
int mem_versions_after(struct mem_shared *s, mfs_ino_t ino, uint64_t data, size_t limit,
		       struct version_list *ret) MFS_NODISCARD;
/* path NULL: any, with trash_time < before, oldest first. */
int mem_trash_where(struct mem_shared *s, const char *path, int64_t before, struct node_list *ret) MFS_NODISCARD;
int mem_dropped_after(struct mem_shared *s, int64_t before, uint64_t after_id, size_t limit,
		      struct dropped_list *ret) MFS_NODISCARD;
int mem_jobs_due(struct mem_shared *s, int64_t due_before, size_t limit, struct job_list *ret) MFS_NODISCARD;
uint64_t mem_jobs_sum(struct mem_shared *s);
int mem_slices_find(struct mem_shared *s, mfs_ino_t ino, uint64_t id, struct node_blob *ret) MFS_NODISCARD;
int mem_slices_after(struct mem_shared *s, mfs_ino_t ino, uint64_t id, size_t limit,
		     struct slices_doc_list *ret) MFS_NODISCARD;
/* Records in files with todo in [1 or below, before], in order of (todo, ino), at most limit. */
int mem_todo_before(struct mem_shared *s, int64_t before, size_t limit, struct node_list *ret) MFS_NODISCARD;
void mem_todo_sum(struct mem_shared *s, uint64_t *ret_records, uint64_t *ret_inline_bytes);
int mem_cell_find(struct mem_shared *s, const char *name, struct cell_record *ret) MFS_NODISCARD;
int mem_cells_after(struct mem_shared *s, const char *prefix, const char *after, size_t limit,
		    struct cell_list *ret) MFS_NODISCARD;
int mem_sessions_all(struct mem_shared *s, struct session_list *ret) MFS_NODISCARD;

#endif
