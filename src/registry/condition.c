/* The grammar of a condition, as `mintfs find` and the selectors of processes take it:
 *
 *   condition := field operator value
 *   field     := word | word '.' key          labels.rows, metrics.val/rmse, params."with = sign"
 *   operator  := '=' | '==' | '!=' | '<' | '<=' | '>' | '>=' | '~'
 *   value     := text up to the end, blanks around it left out | "quoted" | 'quoted'
 *
 * Pure: nothing is looked up. A refusal names the position (from 1, in bytes) and what was expected there. */
#include "registry.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum value_kind { VALUE_ANY, VALUE_TEXT, VALUE_SIZE, VALUE_COUNT, VALUE_VERSION, VALUE_TIME, VALUE_STATE, VALUE_HEX, VALUE_DIGEST };
#define EQUALITY (1u << CATALOG_EQ | 1u << CATALOG_NE)
#define ORDER (1u << CATALOG_LT | 1u << CATALOG_LE | 1u << CATALOG_GT | 1u << CATALOG_GE)
#define MATCH (1u << CATALOG_MATCH)

static const struct word {
	const char *name;
	enum catalog_field field;
	bool keyed; /* a '.' and a key follow */
	bool state;
	enum value_kind value;
	unsigned ops;
} words[] = {
	{"labels", CATALOG_FIELD_FACT, true, false, VALUE_ANY, EQUALITY | ORDER | MATCH},
	{"metrics", CATALOG_FIELD_FACT, true, false, VALUE_ANY, EQUALITY | ORDER},
	{"params", CATALOG_FIELD_FACT, true, false, VALUE_ANY, EQUALITY | ORDER | MATCH},
	{"maintainer", CATALOG_FIELD_FACT, false, false, VALUE_TEXT, EQUALITY | ORDER | MATCH},
	{"source", CATALOG_FIELD_FACT, false, false, VALUE_TEXT, EQUALITY | ORDER | MATCH},
	{"description", CATALOG_FIELD_DESCRIPTION, false, false, VALUE_TEXT, EQUALITY | MATCH},
	{"message", CATALOG_FIELD_MESSAGE, false, false, VALUE_TEXT, EQUALITY | MATCH},
	{"author", CATALOG_FIELD_AUTHOR, false, false, VALUE_TEXT, EQUALITY | MATCH},
	{"created", CATALOG_FIELD_CREATED, false, false, VALUE_TIME, EQUALITY | ORDER},
	{"state", CATALOG_FIELD_AUTHOR, false, true, VALUE_STATE, EQUALITY},
	{"alias", CATALOG_FIELD_ALIAS, false, false, VALUE_TEXT, EQUALITY | MATCH},
	{"version", CATALOG_FIELD_VERSION, false, false, VALUE_VERSION, EQUALITY | ORDER},
	{"model", CATALOG_FIELD_MODEL, false, false, VALUE_TEXT, EQUALITY | MATCH},
	{"type", CATALOG_FIELD_TYPE, false, false, VALUE_TEXT, EQUALITY | MATCH},
	{"size", CATALOG_FIELD_SIZE, false, false, VALUE_SIZE, EQUALITY | ORDER},
	{"files", CATALOG_FIELD_FILES, false, false, VALUE_COUNT, EQUALITY | ORDER},
	{"run", CATALOG_FIELD_RUN, false, false, VALUE_TEXT, EQUALITY | MATCH},
	{"git", CATALOG_FIELD_GIT, false, false, VALUE_HEX, EQUALITY},
	{"digest", CATALOG_FIELD_DIGEST, false, false, VALUE_DIGEST, EQUALITY},
	{"input", CATALOG_FIELD_INPUT, false, false, VALUE_TEXT, EQUALITY},
};

struct parsing {
	const char *text, *at;
	const struct word *word;
	struct catalog_condition c;
	bool quoted; /* the value */
	struct fault *f;
};

#define SHOWN_MAX 120

static int expected(const struct parsing *p, const char *at, const char *what)
{
	return refuse(p->f, VERDICT_NAME, "the condition \"%.*s%s\" is not understood at position %zu: expected %s", SHOWN_MAX, p->text,
		strlen(p->text) > SHOWN_MAX ? "..." : "", (size_t)(at - p->text) + 1, what);
}

static void skip_blanks(struct parsing *p) { p->at += strspn(p->at, " \t\n"); }

static bool is_operator(char c) { return c && strchr("=!<>~", c); }

/* A quoted text at p->at, whose quote has no escape: the other kind of quote stands for itself. */
static int take_quoted(struct parsing *p, char *out, size_t size, const char *what)
{
	const char *begin = p->at++, *end = strchr(p->at, *begin);
	if (!end)
		return expected(p, begin + strlen(begin), *begin == '"' ? "a closing \"" : "a closing '");
	if ((size_t)(end - p->at) >= size)
		return expected(p, begin, what);
	memcpy(out, p->at, (size_t)(end - p->at));
	out[end - p->at] = '\0';
	p->at = end + 1;
	return 0;
}

/* ---- the field ---- */

static const struct word *find_word(const char *text, size_t len)
{
	for (size_t i = 0; i < ARRAY_SIZE(words); i++)
		if (strlen(words[i].name) == len && !memcmp(words[i].name, text, len))
			return &words[i];
	return NULL;
}

static int take_key(struct parsing *p)
{
	char key[CATALOG_NAME_MAX];
	static const char too_long[] = "a name of at most 240 bytes";
	if (*p->at != '.')
		return expected(p, p->at, "'.' and a name, as in labels.rows");
	p->at++;
	if (*p->at == '"' || *p->at == '\'') {
		int rc = take_quoted(p, key, sizeof key - 12, too_long);
		if (rc < 0)
			return rc;
	} else {
		size_t len = strcspn(p->at, " \t\n=!<>~\"'");
		if (len >= sizeof key - 12)
			return expected(p, p->at, too_long);
		memcpy(key, p->at, len);
		key[len] = '\0';
		p->at += len;
	}
	if (!*key)
		return expected(p, p->at, "a name, as in labels.rows");
	snprintf(p->c.name, sizeof p->c.name, "%s.%s", p->word->name, key);
	return 0;
}

static int take_field(struct parsing *p)
{
	skip_blanks(p);
	size_t len = strspn(p->at, "abcdefghijklmnopqrstuvwxyz");
	p->word = find_word(p->at, len);
	if (!p->word)
		return expected(p, p->at, "a field: labels.NAME, metrics.NAME, params.NAME, author, created, state, alias, version, model, type, size, files, description, "
			"maintainer, source, message, run, git, digest or input");
	p->at += len;
	p->c.field = p->word->field;
	text_copy(p->c.name, sizeof p->c.name, p->word->name);
	return p->word->keyed ? take_key(p) : 0;
}

/* ---- the operator ---- */

static int take_operator(struct parsing *p)
{
	static const struct { const char *text; enum catalog_op op; } ops[] = {{"==", CATALOG_EQ}, {"=", CATALOG_EQ}, {"!=", CATALOG_NE}, {"<=", CATALOG_LE},
		{">=", CATALOG_GE}, {"<", CATALOG_LT}, {">", CATALOG_GT}, {"~", CATALOG_MATCH}};
	skip_blanks(p);
	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		size_t len = strlen(ops[i].text);
		if (strncmp(p->at, ops[i].text, len) != 0)
			continue;
		if (is_operator(p->at[len]))
			return expected(p, p->at + len, "a value");
		p->c.op = ops[i].op;
		if (!(p->word->ops & 1u << p->c.op))
			return expected(p, p->at, p->word->ops & ORDER ? "one of = != < <= > >=" : p->word->ops & MATCH ? "one of = != ~" : "= or !=");
		p->at += len;
		return 0;
	}
	return expected(p, p->at, "an operator: = != < <= > >= or ~");
}

/* ---- the value ---- */

static int take_text(struct parsing *p, const char **ret_begin)
{
	skip_blanks(p);
	*ret_begin = p->at;
	if (*p->at == '"' || *p->at == '\'') {
		int rc = take_quoted(p, p->c.text, sizeof p->c.text, "a value of at most 1024 bytes");
		if (rc < 0)
			return rc;
		p->quoted = true;
		skip_blanks(p);
		return *p->at ? expected(p, p->at, "the end; each condition is an argument of its own") : 0;
	}
	size_t len = strlen(p->at);
	while (len && isspace((unsigned char)p->at[len - 1]))
		len--;
	if (!len)
		return expected(p, p->at, "a value");
	if (len >= sizeof p->c.text)
		return expected(p, p->at, "a value of at most 1024 bytes");
	memcpy(p->c.text, p->at, len);
	p->c.text[len] = '\0';
	return 0;
}

static bool read_number(const char *text, double *ret)
{
	char *end;
	if (!*text || strspn(text, "+-.0123456789eE") != strlen(text)) /* not what strtod(3) knows besides: hex, inf, nan */
		return false;
	*ret = strtod(text, &end);
	return !*end && isfinite(*ret);
}

static bool read_size(const char *text, double *ret)
{
	static const struct { const char *unit; double bytes; } units[] = {{"", 1}, {"B", 1}, {"KiB", 1024.0}, {"MiB", 1048576.0}, {"GiB", 1073741824.0}, {"TiB", 1099511627776.0},
		{"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}};
	char digits[32];
	size_t len = strspn(text, ".0123456789");
	if (len == 0 || len >= sizeof digits)
		return false;
	memcpy(digits, text, len);
	digits[len] = '\0';
	text += len + strspn(text + len, " ");
	for (size_t i = 0; i < ARRAY_SIZE(units); i++)
		if (!strcmp(text, units[i].unit) && read_number(digits, ret)) {
			*ret *= units[i].bytes;
			return true;
		}
	return false;
}

/* Days since 1970-01-01 of a date of the Gregorian calendar. */
static int64_t days_of(int y, int m, int d)
{
	y -= m <= 2;
	int era = (y >= 0 ? y : y - 399) / 400, yoe = y - era * 400, doy = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1, doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
	return (int64_t)era * 146097 + doe - 719468;
}

static bool digits(const char **p, unsigned n, int *ret)
{
	*ret = 0;
	for (unsigned i = 0; i < n; i++, (*p)++) {
		if (!isdigit((unsigned char)**p))
			return false;
		*ret = *ret * 10 + (**p - '0');
	}
	return true;
}

static bool is_date(int y, int m, int d)
{
	static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
	bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
	return y >= 1970 && y <= 2200 && m >= 1 && m <= 12 && d >= 1 && d <= days[m - 1] && (m != 2 || d < 29 || leap);
}

/* YYYY-MM-DD, or with HH:MM or HH:MM:SS behind 'T' or a blank, and perhaps a Z: UTC. The whole day, minute or second is meant. */
static bool read_time(const char *p, int64_t *ret_lo, int64_t *ret_hi)
{
	int y, m, d, hour = 0, minute = 0, second = 0;
	int64_t span = 86400;
	if (!digits(&p, 4, &y) || *p++ != '-' || !digits(&p, 2, &m) || *p++ != '-' || !digits(&p, 2, &d) || !is_date(y, m, d))
		return false;
	if (*p == 'T' || *p == ' ') {
		p++;
		if (!digits(&p, 2, &hour) || *p++ != ':' || !digits(&p, 2, &minute) || hour > 23 || minute > 59)
			return false;
		span = 60;
		if (*p == ':') {
			p++;
			if (!digits(&p, 2, &second) || second > 59)
				return false;
			span = 1;
		}
		p += *p == 'Z';
	}
	*ret_lo = (days_of(y, m, d) * 86400 + hour * 3600LL + minute * 60LL + second) * NS_PER_SEC;
	*ret_hi = *ret_lo + span * NS_PER_SEC;
	return *p == '\0';
}

static bool is_hex(const char *text) { return text[strspn(text, "0123456789abcdef")] == '\0'; }

/* The first digits of a digest stand for all that begin so. */
static bool read_digest(const char *text, struct blob_id *ret_lo, struct blob_id *ret_hi)
{
	char lo[BLOB_HEX_SIZE], hi[BLOB_HEX_SIZE];
	size_t len = strlen(text);
	if (len < 4 || len >= sizeof lo || !is_hex(text))
		return false;
	memset(lo, '0', sizeof lo - 1);
	memset(hi, 'f', sizeof hi - 1);
	memcpy(lo, text, len);
	memcpy(hi, text, len);
	lo[sizeof lo - 1] = hi[sizeof hi - 1] = '\0';
	return blob_id_parse(lo, ret_lo) == 0 && blob_id_parse(hi, ret_hi) == 0;
}

static bool read_state(const char *text, unsigned *ret_mask)
{
	for (int s = CATALOG_DRAFT; s <= CATALOG_DISCARDED; s++)
		if (!strcmp(text, catalog_state_name((enum catalog_state)s))) {
			*ret_mask = 1u << s;
			return true;
		}
	return false;
}

#define ALL_STATES (1u << CATALOG_DRAFT | 1u << CATALOG_COMMITTED | 1u << CATALOG_RETIRED | 1u << CATALOG_DISCARDED)

static int take_value(struct parsing *p, unsigned *states)
{
	const char *begin;
	struct catalog_condition *c = &p->c;
	uint32_t number;
	int rc = take_text(p, &begin);
	if (rc < 0)
		return rc;
	switch (p->word->value) {
	case VALUE_ANY:
		c->is_number = !p->quoted && c->op != CATALOG_MATCH && read_number(c->text, &c->number);
		return c->is_number || strcmp(p->word->name, "metrics") != 0 ? 0 : expected(p, begin, "a number");
	case VALUE_TEXT:
		return 0;
	case VALUE_SIZE:
		return read_size(c->text, &c->number) ? 0 : expected(p, begin, "a number of bytes, such as 4096, 20 MiB or 1.5 GB");
	case VALUE_COUNT:
		return read_number(c->text, &c->number) ? 0 : expected(p, begin, "a number");
	case VALUE_VERSION:
		if (layout_classify_child(c->text, &number) == LAYOUT_CHILD_VERSION)
			c->number = number;
		else if (!read_number(c->text, &c->number))
			return expected(p, begin, "a version, such as v3 or 3");
		return 0;
	case VALUE_TIME:
		return read_time(c->text, &c->lo_ns, &c->hi_ns) ? 0 : expected(p, begin, "a time in UTC: 2026-01-31, '2026-01-31 18:40' or '2026-01-31 18:40:00'");
	case VALUE_STATE:
		return read_state(c->text, states) ? 0 : expected(p, begin, "draft, committed, retired or discarded");
	case VALUE_HEX:
		return is_hex(c->text) && strlen(c->text) >= 4 && strlen(c->text) <= 64 ? 0 : expected(p, begin, "4 to 64 hexadecimal digits of a commit");
	case VALUE_DIGEST:
		return read_digest(c->text, &c->digest_lo, &c->digest_hi) ? 0 : expected(p, begin, "4 to 64 hexadecimal digits of a digest");
	}
	return 0;
}

int registry_condition_parse(const char *text, struct catalog_condition *ret, unsigned *ret_states, bool *ret_is_state, struct fault *f)
{
	struct parsing p = {.text = text, .at = text, .f = f};
	unsigned states = 0;
	if (!utf8_valid(text, strlen(text)))
		return expected(&p, text, "UTF-8");
	int rc = take_field(&p);
	if (rc == 0)
		rc = take_operator(&p);
	if (rc == 0)
		rc = take_value(&p, &states);
	if (rc < 0)
		return rc;
	*ret_is_state = p.word->state;
	if (p.word->state)
		*ret_states = p.c.op == CATALOG_NE ? ALL_STATES & ~states : states;
	*ret = p.c;
	return 0;
}
