/*
 * Any bytes as a document of MongoDB, read as each kind of record (the first byte says which): taken or refused. What is
 * taken is put again and taken again, the same.
 */
#include "tests/fuzz/fuzz.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "common/log.h"
#include "meta/mongo_internal.h"

#define ROUND(parse, put, release, type)                                              \
	do {                                                                          \
		bson_t a = BSON_INITIALIZER, b = BSON_INITIALIZER;                    \
		type first, again;                                                    \
                                                                                      \
		if ((parse)(&doc, &first) == 0) {                                     \
			(put)(&first, &a);                                            \
			assert((parse)(&a, &again) == 0);                             \
			(put)(&again, &b);                                            \
			assert(bson_equal(&a, &b));                                   \
			(release)(&first);                                            \
			(release)(&again);                                            \
		}                                                                     \
		bson_destroy(&a);                                                     \
		bson_destroy(&b);                                                     \
	} while (0)

static void alias_release(struct alias *a)
{
	(void)a;
}

static int parse_file(const bson_t *doc, struct node *ret)
{
	return mongo_node_parse(doc, false, false, ret);
}

static int parse_trash(const bson_t *doc, struct node *ret)
{
	return mongo_node_parse(doc, true, false, ret);
}

static void partial(const bson_t *doc)
{
	struct mfs_attr attr;
	struct node n;

	if (mongo_node_parse(doc, false, true, &n) == 0)
		node_release(&n);
	(void)!mongo_attr_parse(doc, false, &attr);
	(void)mongo_is_alias(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool quiet;
	bson_t doc;

	if (!quiet)
		quiet = mfs_log_to_file("/dev/null") == 0;
	if (size < 1 || !bson_init_static(&doc, data + 1, size - 1))
		return 0;
	switch (data[0] % 10) {
	case 0:
		ROUND(parse_file, mongo_node_put, node_release, struct node);
		break;
	case 1:
		ROUND(parse_trash, mongo_node_put, node_release, struct node);
		break;
	case 2:
		ROUND(mongo_alias_parse, mongo_alias_put, alias_release, struct alias);
		break;
	case 3:
		ROUND(mongo_version_parse, mongo_version_put, version_record_release, struct version_record);
		break;
	case 4:
		ROUND(mongo_dropped_parse, mongo_dropped_put, dropped_record_release, struct dropped_record);
		break;
	case 5:
		ROUND(mongo_job_parse, mongo_job_put, job_record_release, struct job_record);
		break;
	case 6:
		ROUND(mongo_session_parse, mongo_session_put, session_record_release, struct session_record);
		break;
	case 7:
		ROUND(mongo_slices_parse, mongo_slices_put, slices_doc_record_release, struct slices_doc_record);
		break;
	case 8:
		ROUND(mongo_cell_parse, mongo_cell_put, cell_record_release, struct cell_record);
		break;
	default:
		partial(&doc);
	}
	return 0;
}
