/* The JSON reader. cJSON reads values, but it recurses, accepts what is not JSON, and forgets how a number was
 * written; so the shape of a text is judged here, and cJSON only ever sees short pieces that have passed.
 *
 * Invariants: pos <= end; depth <= METADATA_DEPTH_MAX; open[0, depth) names the brackets around pos; after a refusal
 * exactly one of wanted and wrong is set, and pos is where a person has to look. */
#include "scan.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_OF_(x) #x
#define TEXT_OF(x) TEXT_OF_(x)

/* Past the end it is 0, which no rule accepts. */
static char at(const struct scan *s, size_t pos)
{
	return pos < s->end ? s->text[pos] : '\0';
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static int refuse_wanted(struct scan *s, const char *wanted)
{
	s->wanted = wanted;
	return -EINVAL;
}

static int refuse_wrong(struct scan *s, size_t pos, const char *wrong)
{
	s->pos = pos;
	s->wrong = wrong;
	return -EINVAL;
}

void scan_init(struct scan *s, const char *text, size_t start, size_t end)
{
	memset(s, 0, sizeof(*s));
	s->text = text;
	s->pos = start;
	s->end = end;
	s->expect = SCAN_WANTS_VALUE;
}

void scan_problem(const struct scan *s, char ret_words[SCAN_PROBLEM_MAX])
{
	unsigned char c = (unsigned char)at(s, s->pos);

	if (!s->wanted)
		snprintf(ret_words, SCAN_PROBLEM_MAX, "%s", s->wrong ? s->wrong : "not what belongs here");
	else if (s->pos >= s->end)
		snprintf(ret_words, SCAN_PROBLEM_MAX, "expected %s, but the text ends", s->wanted);
	else if (c > 0x20 && c < 0x7f)
		snprintf(ret_words, SCAN_PROBLEM_MAX, "expected %s, found '%c'", s->wanted, c);
	else
		snprintf(ret_words, SCAN_PROBLEM_MAX, "expected %s, found the byte 0x%02x", s->wanted, c);
}

static void skip_blanks(struct scan *s)
{
	while (s->pos < s->end && (s->text[s->pos] == ' ' || s->text[s->pos] == '\t' || s->text[s->pos] == '\n' ||
				   s->text[s->pos] == '\r'))
		s->pos++;
}

static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The value of four hex digits at pos, or -1. */
static int hex4(const char *text, size_t pos, size_t end)
{
	int value = 0;

	if (end - pos < 4)
		return -1;
	for (size_t i = pos; i < pos + 4; i++) {
		int digit = hex_digit(text[i]);
		if (digit < 0)
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

/* From the opening quote at pos past the closing one. */
static int read_string(struct scan *s, struct scan_token *t)
{
	size_t p = s->pos + 1;

	while (at(s, p) != '"') {
		if (p >= s->end)
			return refuse_wrong(s, s->pos, "a string without its closing quote");
		if ((unsigned char)s->text[p] < 0x20)
			return refuse_wrong(s, p, "a control character in a string");
		if (s->text[p] != '\\') {
			p++;
			continue;
		}
		char escaped = at(s, p + 1);
		if (escaped == 'u' && hex4(s->text, p + 2, s->end) >= 0)
			p += 6;
		else if (escaped && strchr("\"\\/bfnrt", escaped))
			p += 2;
		else
			return refuse_wrong(s, p, "an unknown escape in a string");
	}
	if (!utf8_valid(s->text + s->pos, p + 1 - s->pos))
		return refuse_wrong(s, s->pos, "a string that is not UTF-8");
	t->end = s->pos = p + 1;
	return 0;
}

static int read_digits(struct scan *s, size_t *pos)
{
	if (!is_digit(at(s, *pos))) {
		s->pos = *pos;
		return refuse_wanted(s, "a digit");
	}
	while (is_digit(at(s, *pos)))
		(*pos)++;
	return 0;
}

static int read_number(struct scan *s, struct scan_token *t)
{
	size_t p = s->pos;
	int r;

	if (at(s, p) == '-')
		p++;
	if (at(s, p) == '0') /* nothing may follow a leading zero: the next token would refuse it */
		p++;
	else if ((r = read_digits(s, &p)) < 0)
		return r;
	if (at(s, p) == '.') {
		p++;
		if ((r = read_digits(s, &p)) < 0)
			return r;
	}
	if (at(s, p) == 'e' || at(s, p) == 'E') {
		p++;
		if (at(s, p) == '+' || at(s, p) == '-')
			p++;
		if ((r = read_digits(s, &p)) < 0)
			return r;
	}
	t->kind = SCAN_NUMBER;
	t->end = s->pos = p;
	return 0;
}

static bool read_word(struct scan *s, struct scan_token *t)
{
	static const struct { const char *word; enum scan_kind kind; } words[] = {
		{"true", SCAN_TRUE}, {"false", SCAN_FALSE}, {"null", SCAN_NULL},
		{"NaN", SCAN_NAN}, {"Infinity", SCAN_NAN}, {"-Infinity", SCAN_NAN},
	};

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t len = strlen(words[i].word);
		if (s->end - s->pos >= len && !memcmp(s->text + s->pos, words[i].word, len)) {
			t->kind = words[i].kind;
			t->end = s->pos += len;
			return true;
		}
	}
	return false;
}

static int open_bracket(struct scan *s, struct scan_token *t, char bracket)
{
	if (s->depth == METADATA_DEPTH_MAX)
		return refuse_wrong(s, s->pos, "nested more than " TEXT_OF(METADATA_DEPTH_MAX) " levels deep");
	s->open[s->depth++] = bracket;
	s->expect = bracket == '{' ? SCAN_WANTS_FIRST_KEY : SCAN_WANTS_FIRST_VALUE;
	t->kind = bracket == '{' ? SCAN_OBJECT : SCAN_ARRAY;
	t->end = ++s->pos;
	return 0;
}

static void close_bracket(struct scan *s, struct scan_token *t)
{
	t->kind = s->open[--s->depth] == '{' ? SCAN_OBJECT_END : SCAN_ARRAY_END;
	s->expect = s->depth ? SCAN_WANTS_COMMA : SCAN_WANTS_NOTHING;
	t->end = ++s->pos;
}

static int read_value(struct scan *s, struct scan_token *t)
{
	char c = at(s, s->pos);
	int r = 0;

	if (c == '{' || c == '[')
		return open_bracket(s, t, c);
	if (c == '"') {
		t->kind = SCAN_STRING;
		r = read_string(s, t);
	} else if (!read_word(s, t)) {
		r = c == '-' || is_digit(c) ? read_number(s, t) : refuse_wanted(s, "a value");
	}
	if (r < 0)
		return r;
	s->expect = s->depth ? SCAN_WANTS_COMMA : SCAN_WANTS_NOTHING;
	return 0;
}

static int read_key(struct scan *s, struct scan_token *t)
{
	int r;

	if (at(s, s->pos) != '"')
		return refuse_wanted(s, s->expect == SCAN_WANTS_KEY ? "a key in double quotes" : "a key in double quotes or '}'");
	t->kind = SCAN_KEY;
	if ((r = read_string(s, t)) < 0)
		return r;
	skip_blanks(s);
	if (at(s, s->pos) != ':')
		return refuse_wanted(s, "':'");
	s->pos++;
	s->expect = SCAN_WANTS_VALUE;
	return 0;
}

int scan_next(struct scan *s, struct scan_token *ret)
{
	skip_blanks(s);
	char c = at(s, s->pos);
	bool in_object = s->depth && s->open[s->depth - 1] == '{';
	bool may_close = s->expect == SCAN_WANTS_COMMA || s->expect == SCAN_WANTS_FIRST_KEY ||
			 s->expect == SCAN_WANTS_FIRST_VALUE;
	struct scan_token t = {SCAN_END, s->pos, s->pos};
	int r = 0;

	if (may_close && c == (in_object ? '}' : ']')) {
		close_bracket(s, &t);
		*ret = t;
		return 0;
	}
	if (s->expect == SCAN_WANTS_COMMA) {
		if (c != ',')
			return refuse_wanted(s, in_object ? "',' or '}'" : "',' or ']'");
		s->pos++;
		s->expect = in_object ? SCAN_WANTS_KEY : SCAN_WANTS_VALUE;
		skip_blanks(s);
		t.start = s->pos;
	}
	if (s->expect == SCAN_WANTS_NOTHING)
		r = s->pos < s->end ? refuse_wanted(s, "nothing more") : 0;
	else if (s->expect == SCAN_WANTS_KEY || s->expect == SCAN_WANTS_FIRST_KEY)
		r = read_key(s, &t);
	else
		r = read_value(s, &t);
	if (r < 0)
		return r;
	*ret = t;
	return 0;
}

int scan_skip(struct scan *s, struct scan_token *t)
{
	if (t->kind != SCAN_OBJECT && t->kind != SCAN_ARRAY)
		return 0;
	unsigned outside = s->depth - 1;
	struct scan_token inner;
	do {
		int r = scan_next(s, &inner);
		if (r < 0)
			return r;
	} while (s->depth > outside);
	t->end = inner.end;
	return 0;
}

/* Copies a string with its quotes, so that every escape in it can be decoded. Returns what buf_add returns. */
static int copy_string(const char *text, const struct scan_token *t, struct buf *out)
{
	size_t copied = t->start;

	for (size_t p = t->start; p + 1 < t->end; p++) {
		size_t len;
		unsigned char c = (unsigned char)text[p];
		unsigned command = c == 0x7f || c == 0xc2 || c == 0xe2 ? utf8_command(text + p, t->end - p, &len) : 0;
		if (command) { /* escaped, so that it does nothing where the JSON is shown */
			buf_add(out, text + copied, p - copied);
			buf_printf(out, "\\u%04x", command);
			copied = p + len;
			p = copied - 1;
		}
		if (text[p] != '\\')
			continue;
		if (text[++p] != 'u')
			continue;
		int code = hex4(text, p + 1, t->end);
		bool paired = false;
		if (code >= 0xd800 && code < 0xdc00 && t->end - p > 11 && text[p + 5] == '\\' && text[p + 6] == 'u') {
			int low = hex4(text, p + 7, t->end);
			paired = low >= 0xdc00 && low < 0xe000;
		}
		if (code == 0 || (code >= 0xd800 && code < 0xe000 && !paired)) {
			buf_add(out, text + copied, p + 1 - copied);
			buf_puts(out, "fffd");
			copied = p + 5;
		}
		p += paired ? 10 : 4;
	}
	return buf_add(out, text + copied, t->end - copied);
}

int scan_string(const char *text, const struct scan_token *t, char **ret)
{
	auto_buf struct buf literal = BUF_INIT((size_t)METADATA_SIZE_MAX * 2);
	int r = copy_string(text, t, &literal);

	if (r < 0)
		return r;
	cJSON *decoded = cJSON_ParseWithLength(buf_text(&literal), literal.len);
	char *copy = decoded && decoded->valuestring ? strdup(decoded->valuestring) : NULL;
	cJSON_Delete(decoded);
	if (!copy) /* the literal is well-formed, so only memory can have been short */
		return -ENOMEM;
	*ret = copy;
	return 0;
}

bool scan_is(const char *text, const struct scan_token *t, const char *word)
{
	size_t len = t->end - t->start - 2;
	auto_free char *decoded = NULL;

	if (!memchr(text + t->start + 1, '\\', len))
		return len == strlen(word) && !memcmp(text + t->start + 1, word, len);
	return scan_string(text, t, &decoded) == 0 && !strcmp(decoded, word);
}

int scan_number(const char *text, const struct scan_token *t, double *ret)
{
	auto_free char *copy = strndup(text + t->start, t->end - t->start);

	if (!copy)
		return -ENOMEM;
	*ret = strtod(copy, NULL);
	return 0;
}

/* Numbers that no double holds, such as 1e999, are read as infinite by whoever reads the JSON later: Python, SQLite, jq. So to us they are what NaN is. 1: it is none. */
static int is_infinite(const char *text, const struct scan_token *t)
{
	size_t len = t->end - t->start;
	double value;

	if (len <= 300 && !memchr(text + t->start, 'e', len) && !memchr(text + t->start, 'E', len))
		return 0; /* the largest double has 309 digits */
	int r = scan_number(text, t, &value);
	return r < 0 ? r : !isfinite(value);
}

int scan_compact(const char *text, size_t start, size_t end, size_t enough, struct buf *out)
{
	struct scan s;
	struct scan_token t;
	bool comma = false;

	scan_init(&s, text, start, end);
	while (out->len <= enough) {
		int r = scan_next(&s, &t);
		if (r < 0)
			return r;
		if (t.kind == SCAN_END)
			break;
		int infinite = t.kind == SCAN_NUMBER ? is_infinite(text, &t) : t.kind == SCAN_NAN;
		if (infinite < 0)
			return infinite;
		bool closes = t.kind == SCAN_OBJECT_END || t.kind == SCAN_ARRAY_END;
		if (comma && !closes)
			buf_putc(out, ',');
		if (t.kind == SCAN_KEY || t.kind == SCAN_STRING)
			copy_string(text, &t, out);
		else if (infinite)
			buf_puts(out, "null");
		else
			buf_add(out, text + t.start, t.end - t.start);
		if (t.kind == SCAN_KEY)
			buf_putc(out, ':');
		comma = t.kind != SCAN_KEY && t.kind != SCAN_OBJECT && t.kind != SCAN_ARRAY;
		if (out->error)
			return out->error;
	}
	return 0;
}
