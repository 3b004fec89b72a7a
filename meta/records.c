/*
 * Records of the side collections as values: release, deep copy, growing lists.
 */
#include "meta/records.h"

#include <errno.h>
#include <string.h>

static int string_copy(const char *s, char **ret)
{
	*ret = s ? strdup(s) : NULL;
	return s && !*ret ? -ENOMEM : 0;
}

void version_record_release(struct version_record *r)
{
	if (!r)
		return;
	free(r->path);
	object_ref_release(&r->ref);
	free(r->slices.data);
	free(r->inline_data.data);
	*r = (struct version_record){ 0 };
}

int version_record_copy(const struct version_record *r, struct version_record *ret)
{
	int err;

	*ret = *r;
	ret->ref = (struct object_ref){ 0 };
	ret->slices = ret->inline_data = (struct node_blob){ 0 };
	err = string_copy(r->path, &ret->path);
	if (err == 0)
		err = object_ref_copy(&r->ref, &ret->ref);
	if (err == 0)
		err = node_blob_copy(&r->slices, &ret->slices);
	if (err == 0)
		err = node_blob_copy(&r->inline_data, &ret->inline_data);
	if (err < 0)
		version_record_release(ret);
	return err;
}

void dropped_record_release(struct dropped_record *r)
{
	if (!r)
		return;
	object_ref_release(&r->ref);
	*r = (struct dropped_record){ 0 };
}

int dropped_record_copy(const struct dropped_record *r, struct dropped_record *ret)
{
	int err;

	*ret = *r;
	ret->ref = (struct object_ref){ 0 };
	err = object_ref_copy(&r->ref, &ret->ref);
	if (err < 0)
		dropped_record_release(ret);
	return err;
}

void slices_doc_record_release(struct slices_doc_record *r)
{
	if (!r)
		return;
	free(r->blob.data);
	*r = (struct slices_doc_record){ 0 };
}

int slices_doc_record_copy(const struct slices_doc_record *r, struct slices_doc_record *ret)
{
	int err;

	*ret = *r;
	err = node_blob_copy(&r->blob, &ret->blob);
	if (err < 0)
		slices_doc_record_release(ret);
	return err;
}

void job_record_release(struct job_record *r)
{
	if (!r)
		return;
	free(r->key);
	*r = (struct job_record){ 0 };
}

int job_record_copy(const struct job_record *r, struct job_record *ret)
{
	int err;

	*ret = *r;
	err = string_copy(r->key, &ret->key);
	if (err < 0)
		job_record_release(ret);
	return err;
}

void session_record_release(struct session_record *r)
{
	if (!r)
		return;
	free(r->host);
	free(r->mountpoint);
	*r = (struct session_record){ 0 };
}

int session_record_copy(const struct session_record *r, struct session_record *ret)
{
	int err;

	*ret = *r;
	ret->mountpoint = NULL;
	err = string_copy(r->host, &ret->host);
	if (err == 0)
		err = string_copy(r->mountpoint, &ret->mountpoint);
	if (err < 0)
		session_record_release(ret);
	return err;
}

void cell_record_release(struct cell_record *r)
{
	if (!r)
		return;
	free(r->name);
	free(r->blob.data);
	*r = (struct cell_record){ 0 };
}

int cell_record_copy(const struct cell_record *r, struct cell_record *ret)
{
	int err;

	*ret = (struct cell_record){ .token = r->token };
	err = string_copy(r->name, &ret->name);
	if (err == 0)
		err = node_blob_copy(&r->blob, &ret->blob);
	if (err < 0)
		cell_record_release(ret);
	return err;
}

#define DEFINE_LIST(type)                                                         \
	void type##_list_release(struct type##_list *l)                           \
	{                                                                         \
		if (!l)                                                           \
			return;                                                   \
		for (size_t i = 0; i < l->n; i++)                                 \
			type##_record_release(&l->v[i]);                          \
		free(l->v);                                                       \
		*l = (struct type##_list){ 0 };                                   \
	}                                                                         \
                                                                                  \
	struct type##_record *type##_list_add(struct type##_list *l)              \
	{                                                                         \
		if (l->n == l->cap) {                                             \
			size_t cap = l->cap ? l->cap * 2 : 16;                    \
			struct type##_record *v = reallocarray(l->v, cap, sizeof(*v)); \
                                                                                  \
			if (!v)                                                   \
				return NULL;                                      \
			l->v = v;                                                 \
			l->cap = cap;                                             \
		}                                                                 \
		l->v[l->n] = (struct type##_record){ 0 };                         \
		return &l->v[l->n++];                                             \
	}

DEFINE_LIST(version)
DEFINE_LIST(dropped)
DEFINE_LIST(slices_doc)
DEFINE_LIST(job)
DEFINE_LIST(session)
DEFINE_LIST(cell)
