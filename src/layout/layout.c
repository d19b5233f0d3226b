/* The path grammar: see the door.
 *
 * The grammar is one table of shapes. A shape is what a path down to a model looks like: the mode, for global a second
 * fixed word, then a role for each component that follows. Everything else here walks that table, so a mode or a scope more
 * is a row more.
 *
 * A refusal names the component, the rule it breaks and a path that would be right. Components are shown abbreviated, so that
 * the rule and the example always fit into the sentence. */
#include <mintfs/layout.h>

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

#include "name.h"

enum role {
	ROLE_PRODUCT_AND_SCOPE,
	ROLE_STORE_AND_SCOPE,
	ROLE_STORE,
	ROLE_PRODUCT,
	ROLE_AGGREGATION,
	ROLE_TYPE,
	ROLE_NAME,
};

/* How people call it. Where a component holds an id and a scope, these are the words for both. */
static const struct {
	const char *label;
	const char *id, *scope, *scope_rule; /* NULL: the whole component is one id */
} roles[] = {
	[ROLE_PRODUCT_AND_SCOPE] = {"product id with its scope", "product id", "scope",
		"product/{product_id}_{scope}, where the scope is 'all' or a store id, e.g. product/P001_all or product/P001_S001"},
	[ROLE_STORE_AND_SCOPE] = {"store id with its scope", "store id", "scope",
		"store/{store_id}_{scope}, where the scope is 'all' or a product id, e.g. store/S001_all or store/S001_P002"},
	[ROLE_STORE] = {.label = "store id"},
	[ROLE_PRODUCT] = {.label = "product id"},
	[ROLE_AGGREGATION] = {.label = "aggregation"},
	[ROLE_TYPE] = {.label = "model type"},
	[ROLE_NAME] = {.label = "name"},
};

#define SHAPE_ROLES_MAX 4

static const struct shape {
	enum layout_mode mode;
	const char *word; /* the second component, where it is fixed */
	size_t n_roles;
	enum role roles[SHAPE_ROLES_MAX];
	const char *example;
} shapes[] = {
	{LAYOUT_PRODUCT, NULL, 2, {ROLE_PRODUCT_AND_SCOPE, ROLE_TYPE}, "product/P001_all/mlstm"},
	{LAYOUT_STORE, NULL, 2, {ROLE_STORE_AND_SCOPE, ROLE_TYPE}, "store/S001_P002/transformer"},
	{LAYOUT_GLOBAL, "all", 2, {ROLE_AGGREGATION, ROLE_TYPE}, "global/all/sum/kan"},
	{LAYOUT_GLOBAL, "stores", 3, {ROLE_STORE, ROLE_AGGREGATION, ROLE_TYPE}, "global/stores/S001/sum/kan"},
	{LAYOUT_GLOBAL, "products", 3, {ROLE_PRODUCT, ROLE_AGGREGATION, ROLE_TYPE}, "global/products/P001/sum/kan"},
	{LAYOUT_GLOBAL, "custom", 4, {ROLE_STORE, ROLE_PRODUCT, ROLE_AGGREGATION, ROLE_TYPE},
		"global/custom/S001/P001/sum/kan"},
	{LAYOUT_DATASET, NULL, 1, {ROLE_NAME}, "dataset/mol"},
	{LAYOUT_PROCESS, NULL, 1, {ROLE_NAME}, "process/property-screening"},
};

static const struct {
	const char *name;
	bool typed; /* the last component of a model is its type */
} modes[LAYOUT_MODES] = {
	[LAYOUT_PRODUCT] = {"product", true},
	[LAYOUT_STORE] = {"store", true},
	[LAYOUT_GLOBAL] = {"global", true},
	[LAYOUT_DATASET] = {"dataset", false},
	[LAYOUT_PROCESS] = {"process", false},
};

static const char record_prefix[] = "saved_models";

/* A path taken apart. The parts point into the text. Only the first ones are kept, but all are counted. */
struct parts {
	size_t count;
	struct span at[LAYOUT_DEPTH_MAX + 1];
};

/* How far the parts lead. */
struct place {
	enum layout_mode mode;
	const struct shape *shape; /* NULL: the mode alone, whose shape is not known yet */
	size_t fixed;              /* parts that are words of the grammar */
	size_t depth;              /* parts down to the model */
};

const char *layout_mode_name(enum layout_mode mode)
{
	return (unsigned)mode < LAYOUT_MODES ? modes[mode].name : "unknown";
}

bool layout_mode_typed(enum layout_mode mode)
{
	return (unsigned)mode < LAYOUT_MODES && modes[mode].typed;
}

/* Splits text at each '/'. Empty parts are left out where `lenient`, else they are kept, to be refused as ids. */
static void split(const char *text, bool lenient, struct parts *ret)
{
	ret->count = 0;
	for (const char *p = text;; p++) {
		struct span s = {p, strcspn(p, "/")};
		p += s.len;
		if (s.len > 0 || !lenient) {
			if (ret->count < ARRAY_SIZE(ret->at))
				ret->at[ret->count] = s;
			ret->count++;
		}
		if (*p == '\0')
			return;
	}
}

static int find_mode(struct span part, enum layout_mode *ret, struct fault *f)
{
	struct quoted q;

	for (enum layout_mode m = 0; m < LAYOUT_MODES; m++) {
		if (!span_is(part, modes[m].name))
			continue;
		*ret = m;
		return 0;
	}
	return fault_set(f, EINVAL, "'%s' is not a mode: a path begins with product, store or global, dataset or process, "
		"e.g. product/P001_all/mlstm", quote(part, &q));
}

static const struct shape *find_shape(enum layout_mode mode, struct span second)
{
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++) {
		if (shapes[i].mode == mode && (!shapes[i].word || span_is(second, shapes[i].word)))
			return &shapes[i];
	}
	return NULL;
}

/* {id}_{scope}: the scope is what follows the last '_'. */
static int check_pair(enum role role, struct span part, struct fault *f)
{
	const char *rule = roles[role].scope_rule;
	struct span id, scope;
	struct quoted q;
	const char *cut = memrchr(part.text, '_', part.len);
	int r;

	if (part.len == 0 || part.len > LAYOUT_NAME_MAX)
		return name_check(roles[role].label, part, f);
	if (!cut)
		return fault_set(f, EINVAL, "'%s' has no scope, there is no '_' in it: write %s", quote(part, &q), rule);
	id = (struct span){part.text, (size_t)(cut - part.text)};
	scope = (struct span){cut + 1, part.len - id.len - 1};
	if (id.len == 0)
		return fault_set(f, EINVAL, "'%s' has no %s before the '_': write %s", quote(part, &q), roles[role].id, rule);
	if (scope.len == 0)
		return fault_set(f, EINVAL, "'%s' has no scope after the last '_': write %s", quote(part, &q), rule);
	r = name_check(roles[role].id, id, f);
	return r < 0 ? r : name_check(roles[role].scope, scope, f);
}

static int check_role(enum role role, struct span part, struct fault *f)
{
	return roles[role].scope_rule ? check_pair(role, part, f) : name_check(roles[role].label, part, f);
}

/* Follows the grammar as far as there are parts (at least one) and components of a model. */
static int walk(const struct parts *parts, struct place *ret, struct fault *f)
{
	struct place place = {.shape = NULL};
	struct quoted q;
	int r = find_mode(parts->at[0], &place.mode, f);

	if (r < 0)
		return r;
	if (parts->count > 1) {
		place.shape = find_shape(place.mode, parts->at[1]);
		if (!place.shape)
			return fault_set(f, EINVAL, "'%s' is not a scope of global: write global/all, global/stores/{store_id}, "
				"global/products/{product_id} or global/custom/{store_id}/{product_id}, e.g. global/all/sum/kan",
				quote(parts->at[1], &q));
		place.fixed = place.shape->word ? 2 : 1;
		place.depth = place.fixed + place.shape->n_roles;
		for (size_t i = place.fixed; i < place.depth && i < parts->count; i++) {
			r = check_role(place.shape->roles[i - place.fixed], parts->at[i], f);
			if (r < 0)
				return r;
		}
	}
	*ret = place;
	return 0;
}

/* Joins the first n parts by c. Parts of a model have been checked, so they fit. */
static void join(const struct parts *parts, size_t n, char c, char out[LAYOUT_PATH_MAX])
{
	char *p = out;

	for (size_t i = 0; i < n; i++) {
		if (i > 0)
			*p++ = c;
		memcpy(p, parts->at[i].text, parts->at[i].len); /* NOLINT(clang-analyzer-core.CallAndMessage): there are n parts */
		p += parts->at[i].len;
	}
	*p = '\0';
}

static void fill_model(const struct parts *parts, const struct place *place, struct layout_model *ret)
{
	bool typed = modes[place->mode].typed;
	const struct span *last = &parts->at[place->depth - 1];

	ret->mode = place->mode;
	join(parts, place->depth, '/', ret->path);
	join(parts, place->depth, '_', ret->key);
	join(parts, typed ? place->depth - 1 : place->depth, '_', ret->identifier);
	memcpy(ret->type, last->text, typed ? last->len : 0);
	ret->type[typed ? last->len : 0] = '\0';
}

int layout_check_id(const char *name, struct fault *f)
{
	return name_check("name", (struct span){name, strlen(name)}, f);
}

int layout_classify(const char *path, enum layout_kind *ret_kind, struct layout_model *ret_model, struct fault *f)
{
	struct parts parts;
	struct place place;
	struct quoted q;
	int r;

	if (*path == '\0') {
		*ret_kind = LAYOUT_ROOT;
		return 0;
	}
	split(path, false, &parts);
	r = walk(&parts, &place, f);
	if (r < 0)
		return r;
	if (!place.shape || parts.count < place.depth) {
		*ret_kind = LAYOUT_SCOPE;
		return 0;
	}
	if (parts.count > place.depth)
		return fault_set(f, EINVAL, "'%s' lies below a model: a path to a model ends with its %s, e.g. %s",
			quote(parts.at[place.depth], &q), roles[place.shape->roles[place.shape->n_roles - 1]].label,
			place.shape->example);
	if (ret_model)
		fill_model(&parts, &place, ret_model);
	*ret_kind = LAYOUT_MODEL;
	return 0;
}

enum layout_child layout_classify_child(const char *name, uint32_t *ret_number)
{
	struct span s = {name, strlen(name)};
	uint64_t number;

	if (span_is(s, "latest"))
		return LAYOUT_CHILD_LATEST;
	if (span_is(s, "next"))
		return LAYOUT_CHILD_NEXT;
	if (span_is(s, "best"))
		return LAYOUT_CHILD_BEST;
	if (name_is_version_like(s)) {
		if (name[1] == '0' || parse_u64(name + 1, LAYOUT_NUMBER_MAX, &number) < 0)
			return LAYOUT_CHILD_INVALID;
		if (ret_number)
			*ret_number = (uint32_t)number;
		return LAYOUT_CHILD_VERSION;
	}
	return layout_check_id(name, NULL) < 0 ? LAYOUT_CHILD_INVALID : LAYOUT_CHILD_ALIAS;
}

/* Is there a model at all, or does the path end before? */
static int check_complete(const char *text, const struct parts *parts, const struct place *place, struct fault *f)
{
	struct quoted q;
	const char *shown = quote((struct span){text, strlen(text)}, &q);

	if (place->shape && parts->count >= place->depth)
		return 0;
	if (place->shape)
		return fault_set(f, EINVAL, "'%s' is not a model, its %s is missing, e.g. %s", shown,
			roles[place->shape->roles[parts->count - place->fixed]].label, place->shape->example);
	return fault_set(f, EINVAL, "'%s' is a mode, not a model: go on as in %s", shown,
		find_shape(place->mode, (struct span){"all", 3})->example);
}

static int parse_child(struct span part, char out[LAYOUT_NAME_MAX + 1], struct fault *f)
{
	struct quoted q;

	if (part.len > LAYOUT_NAME_MAX)
		return name_check("name", part, f);
	memcpy(out, part.text, part.len);
	out[part.len] = '\0';
	if (layout_classify_child(out, NULL) != LAYOUT_CHILD_INVALID)
		return 0;
	if (name_is_version_like(part))
		return fault_set(f, EINVAL, "'%s' is not a version: versions are v1 to v%d, without leading zeros, e.g. v2",
			quote(part, &q), LAYOUT_NUMBER_MAX);
	return name_check("name", part, f);
}

/* The path within a version, at p: its names are the trainer's, so nearly all of them are welcome. */
static int parse_rest(const char *p, char *out, size_t size, struct fault *f)
{
	struct quoted q;
	size_t len = 0;

	for (;;) {
		p += strspn(p, "/");
		struct span s = {p, strcspn(p, "/")};
		if (s.len == 0)
			break;
		if (span_is(s, ".") || span_is(s, ".."))
			return fault_set(f, EINVAL, "the path within the version contains '%s': write it without, "
				"e.g. model.pth", quote(s, &q));
		if (s.len > LAYOUT_NAME_MAX)
			return fault_set(f, EINVAL, "the file name '%s' is %zu bytes long; the limit is %d bytes",
				quote(s, &q), s.len, LAYOUT_NAME_MAX);
		if (len + 1 + s.len >= size)
			return fault_set(f, EINVAL, "the path within the version is longer than %zu bytes", size - 1);
		if (len > 0)
			out[len++] = '/';
		memcpy(out + len, s.text, s.len);
		len += s.len;
		p += s.len;
	}
	out[len] = '\0';
	return 0;
}

int layout_parse(const char *text, struct layout_ref *ret_ref, struct fault *f)
{
	struct layout_ref ref = {.child = "", .rest = ""};
	const char *path = text;
	struct parts parts;
	struct place place;
	struct quoted q;
	int r;

	if (*text == '/')
		return fault_set(f, EINVAL, "'%s' begins with '/': write the path below the mount point, "
			"e.g. product/P001_all/mlstm", quote((struct span){text, strlen(text)}, &q));
	split(text, true, &parts);
	if (parts.count > 1 && span_is(parts.at[0], record_prefix)) {
		path = parts.at[1].text;
		split(path, true, &parts);
	} else if (parts.count < 2) {
		return fault_set(f, ENOENT, "'%s' is not a path to a model, e.g. product/P001_all/mlstm",
			quote((struct span){text, strlen(text)}, &q));
	}
	r = walk(&parts, &place, f);
	if (r == 0)
		r = check_complete(text, &parts, &place, f);
	if (r == 0 && parts.count > place.depth) {
		const struct span *child = &parts.at[place.depth];
		r = parse_child(*child, ref.child, f);
		if (r == 0)
			r = parse_rest(child->text + child->len, ref.rest, sizeof(ref.rest), f);
	}
	if (r != 0)
		return r;
	fill_model(&parts, &place, &ref.model);
	*ret_ref = ref;
	return 0;
}

int layout_record_path(const char *model_path, uint32_t number, char *out, size_t size)
{
	char tail[16];
	int n = snprintf(tail, sizeof(tail), "/v%u/", (unsigned)number);
	size_t prefix_len = strlen(record_prefix), path_len = strlen(model_path);

	if (prefix_len + 1 + path_len + (size_t)n >= size)
		return -ENAMETOOLONG;
	snprintf(out, size, "%s/%s%s", record_prefix, model_path, tail);
	return 0;
}
