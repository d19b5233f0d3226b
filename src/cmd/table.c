/* Tables and the texts in them.
 *
 * Names and messages come from anybody. What is printed of them passes text_add_safe, so that none can write escape sequences to the terminal of who lists
 * them. Widths are display columns: a Chinese character takes two. The locale is set by cmd_parse. */
#include "table.h"

#include <errno.h>
#include <math.h>
#include <mintfs/util.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

/* ---- text ---- */

/* Marks that turn the direction of what follows: a name could show as another. */
static bool turns_direction(wchar_t c) { return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069); }

/* The length in bytes of the character at p, and its width; 0 where it must not be printed. */
static size_t printable(const char *p, size_t left, mbstate_t *state, int *ret_width)
{
	wchar_t wide;
	unsigned char first = (unsigned char)*p;
	if (first < 0x80) {
		*ret_width = 1;
		return first >= 0x20 && first != 0x7f;
	}
	size_t n = mbrtowc(&wide, p, left, state);
	if (n == 0 || n > left) {
		memset(state, 0, sizeof *state);
		return 0;
	}
	*ret_width = wcwidth(wide);
	return *ret_width < 0 || turns_direction(wide) ? 0 : n;
}

static size_t character_length(const char *p, size_t left)
{
	size_t n = 1;
	while (n < left && n < 4 && ((unsigned char)p[n] & 0xc0) == 0x80)
		n++;
	return utf8_valid(p, n) ? n : 1;
}

void text_add_safe(struct buf *b, const char *text, unsigned *ret_width)
{
	mbstate_t state = {0};
	unsigned width = 0;
	for (size_t left = strlen(text), n; left > 0; text += n, left -= n) {
		int w;
		n = printable(text, left, &state, &w);
		if (n > 0) {
			buf_add(b, text, n);
			width += (unsigned)w;
		} else {
			n = character_length(text, left);
			buf_putc(b, '?');
			width++;
		}
	}
	if (ret_width)
		*ret_width += width;
}

void text_print(const char *text)
{
	auto_buf struct buf b = BUF_INIT(1u << 30);
	text_add_safe(&b, text, NULL);
	fputs(buf_text(&b), stdout);
}

/* Bytes of a safe text that fit into width columns. */
static size_t fitting(const char *text, unsigned width)
{
	mbstate_t state = {0};
	size_t at = 0, left = strlen(text), n;
	unsigned used = 0;
	int w;
	while (at < left && (n = printable(text + at, left - at, &state, &w)) > 0 && used + (unsigned)w <= width) {
		at += n;
		used += (unsigned)w;
	}
	return at;
}

/* ---- numbers ---- */

const char *human_size(uint64_t bytes, char out[HUMAN_MAX])
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	double value = (double)bytes;
	int unit = -1;
	while (value >= 1023.95 && unit < 5) { /* 1023.96 KiB would show as 1024.0 KiB */
		value /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(out, HUMAN_MAX, "%u B", (unsigned)bytes);
	else
		snprintf(out, HUMAN_MAX, "%.1f %s", value, units[unit]);
	return out;
}

const char *human_age(int64_t since_ns, char out[HUMAN_MAX])
{
	static const struct { int64_t below, unit; const char *name; } steps[] = {{60, 1, "s"}, {3600, 60, "min"}, {86400, 3600, "h"}, {INT64_C(100) * 86400, 86400, "d"},
		{INT64_C(730) * 86400, 2629746, "mo"}, {INT64_MAX, 31556952, "y"}};
	int64_t age;
	size_t i = 0;
	if (since_ns == 0)
		return "-";
	if (__builtin_sub_overflow(time_now_ns(), since_ns, &age)) /* a foreign hand wrote it */
		age = INT64_MAX;
	age = age < 0 ? 0 : age / NS_PER_SEC;
	while (age >= steps[i].below)
		i++;
	snprintf(out, HUMAN_MAX, "%lld %s", (long long)(age / steps[i].unit), steps[i].name);
	return out;
}

const char *human_time(int64_t at_ns, char out[HUMAN_MAX])
{
	if (at_ns == 0)
		return "-";
	time_utc_text(at_ns, out);
	return out;
}

const char *human_number(const char *text, char out[HUMAN_MAX])
{
	char *end;
	double value = strtod(text, &end);
	if (!strcmp(text, "null")) /* no number: NaN, as the trainer wrote it */
		return "-";
	if (*text && !*end && isfinite(value))
		snprintf(out, HUMAN_MAX, "%.6g", value);
	else
		snprintf(out, HUMAN_MAX, "%.*s", (int)fitting(text, 14), text);
	return out;
}

const char *style_on(enum style s, bool color)
{
	static const char *const codes[] = {"", "\033[1m", "\033[2m", "\033[31m", "\033[32m", "\033[33m", "\033[36m"};
	return color ? codes[s] : "";
}

const char *style_off(enum style s, bool color) { return color && s != STYLE_PLAIN ? "\033[0m" : ""; }

/* ---- tables ---- */

void table_release(struct table *t)
{
	free(t->cells);
	buf_release(&t->text);
	*t = (struct table)TABLE_INIT;
}

void table_column(struct table *t, const char *title, bool right)
{
	unsigned width = 0;
	auto_buf struct buf safe = BUF_INIT(1 << 16);
	if (t->n_columns == TABLE_COLUMNS_MAX) {
		t->error = -EOVERFLOW;
		return;
	}
	text_add_safe(&safe, title ? title : "", &width);
	t->columns[t->n_columns++] = (struct table_column){.title = title, .right = right, .width = width};
}

void table_cell(struct table *t, enum style style, const char *text)
{
	if (t->error || t->n_columns == 0)
		return;
	if (t->n_cells == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 256;
		struct table_cell *cells = realloc(t->cells, cap * sizeof *cells);
		if (!cells) {
			t->error = -ENOMEM;
			return;
		}
		t->cells = cells;
		t->cap = cap;
	}
	struct table_column *column = &t->columns[t->n_cells % t->n_columns];
	struct table_cell *cell = &t->cells[t->n_cells++];
	*cell = (struct table_cell){.at = t->text.len, .style = style};
	if (text)
		text_add_safe(&t->text, text, &cell->width);
	buf_putc(&t->text, '\0');
	if (t->text.error)
		t->error = t->text.error;
	if (cell->width > column->width)
		column->width = cell->width;
	column->filled |= cell->width > 0;
}

void table_cellf(struct table *t, enum style style, const char *fmt, ...)
{
	char text[4096];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	table_cell(t, style, text);
}

static unsigned terminal_width(void)
{
	struct winsize size;
	return isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : 0;
}

struct line {
	const struct table *t;
	unsigned indent, limit; /* limit: columns of the terminal, 0 for none */
	unsigned last;          /* the last column that is shown */
	bool color;
};

static void put_cell(const struct line *l, unsigned column, unsigned *at, const char *text, unsigned width, enum style style)
{
	const struct table_column *c = &l->t->columns[column];
	unsigned pad = width < c->width ? c->width - width : 0;
	size_t len = strlen(text);
	bool last = column == l->last;
	if (last && !c->right && l->limit > *at && *at + width > l->limit)
		len = fitting(text, l->limit - *at);
	printf("%*s%s%.*s%s", c->right ? (int)pad : 0, "", len ? style_on(style, l->color) : "", (int)len, text, len ? style_off(style, l->color) : "");
	if (!last)
		printf("%*s", (c->right ? 0 : (int)pad) + 2, "");
	*at += c->width + 2;
}

static void put_titles(const struct line *l)
{
	unsigned at = l->indent;
	printf("%*s", (int)l->indent, "");
	for (unsigned i = 0; i <= l->last; i++) {
		const struct table_column *c = &l->t->columns[i];
		auto_buf struct buf title = BUF_INIT(1 << 16);
		unsigned width = 0;
		text_add_safe(&title, c->title ? c->title : "", &width);
		if (c->filled)
			put_cell(l, i, &at, buf_text(&title), width, STYLE_DIM);
	}
	putchar('\n');
}

/* Empty cells at the end of a row leave no blanks behind. */
static unsigned last_filled(const struct line *l, const struct table_cell *row)
{
	unsigned last = l->last;
	while (last > 0 && (!l->t->columns[last].filled || row[last].width == 0))
		last--;
	return last;
}

int table_print(const struct table *t, unsigned indent, bool color)
{
	struct line l = {.t = t, .indent = indent, .limit = terminal_width(), .color = color};
	bool titles = false;
	if (t->error)
		return t->error;
	for (unsigned i = 0; i < t->n_columns; i++) {
		if (t->columns[i].filled)
			l.last = i;
		titles |= t->columns[i].title != NULL;
	}
	if (titles && t->n_cells)
		put_titles(&l);
	for (size_t row = 0; row + t->n_columns <= t->n_cells; row += t->n_columns) {
		const struct table_cell *cells = &t->cells[row];
		struct line of_row = l;
		unsigned at = indent;
		of_row.last = last_filled(&l, cells);
		printf("%*s", (int)indent, "");
		for (unsigned i = 0; i <= of_row.last; i++)
			if (t->columns[i].filled)
				put_cell(&of_row, i, &at, buf_text(&t->text) + cells[i].at, cells[i].width, cells[i].style);
		putchar('\n');
	}
	return 0;
}

/* ---- facts ---- */

void table_facts(struct table *t)
{
	table_column(t, NULL, false);
	table_column(t, NULL, false);
}

void table_fact(struct table *t, const char *name, const char *value)
{
	if (!value || !*value)
		return;
	table_cell(t, STYLE_DIM, name);
	table_cell(t, STYLE_PLAIN, value);
}

void table_fact_time(struct table *t, const char *name, int64_t at_ns)
{
	char at[HUMAN_MAX], age[HUMAN_MAX], text[3 * HUMAN_MAX];
	if (!at_ns)
		return;
	snprintf(text, sizeof text, "%s UTC, %s ago", human_time(at_ns, at), human_age(at_ns, age));
	table_fact(t, name, text);
}

void table_fact_lines(struct table *t, const char *name, const char *text)
{
	auto_free char *copy = text ? strdup(text) : NULL;
	char *rest = copy;
	for (char *line; copy && (line = strsep(&rest, "\n")); name = "") {
		table_cell(t, STYLE_DIM, name);
		table_cell(t, STYLE_PLAIN, line);
	}
}
