/* Output that a person enjoys: text that is safe for a terminal, sizes and ages, tables aligned by display width. */
#ifndef MINTFS_CMD_TABLE_H
#define MINTFS_CMD_TABLE_H

#include <mintfs/buf.h>
#include <mintfs/cleanup.h>
#include <stdbool.h>
#include <stdint.h>

/* Adds text with everything that could move a terminal's cursor or turn its reading direction replaced by '?', and what is no character in the locale, too.
 * Adds its display width to *ret_width (NULL allowed). */
void text_add_safe(struct buf *b, const char *text, unsigned *ret_width);
void text_print(const char *text); /* the same, to standard output */

#define HUMAN_MAX 32
const char *human_size(uint64_t bytes, char out[HUMAN_MAX]);            /* "812 B", "12.3 KiB" */
const char *human_age(int64_t since_ns, char out[HUMAN_MAX]);           /* "3 min", "2 h", "5 d"; "-" for 0 */
const char *human_time(int64_t at_ns, char out[HUMAN_MAX]);             /* "2025-07-15 18:40:00", UTC; "-" for 0 */
const char *human_number(const char *text, char out[HUMAN_MAX]);        /* a metric's value in at most six digits; "-" for null; other text is cut */

enum style { STYLE_PLAIN, STYLE_BOLD, STYLE_DIM, STYLE_RED, STYLE_GREEN, STYLE_YELLOW, STYLE_CYAN };
/* Escape sequences around a piece of output; empty without colour. */
const char *style_on(enum style s, bool color);
const char *style_off(enum style s, bool color);

#define TABLE_COLUMNS_MAX 16
struct table_cell { size_t at; unsigned width; enum style style; };
struct table_column { const char *title; bool right; unsigned width; bool filled; };
struct table {
	struct table_column columns[TABLE_COLUMNS_MAX];
	unsigned n_columns;
	struct table_cell *cells; /* row by row */
	size_t n_cells, cap;
	struct buf text;          /* the cells' texts, each with its NUL */
	int error;                /* sticky, -errno */
};
#define TABLE_INIT {.text = BUF_INIT(1u << 30)}
void table_release(struct table *t);
#define auto_table __attribute__((cleanup(table_release)))

/* title: borrowed until the table is printed; NULL for a table without heading. */
void table_column(struct table *t, const char *title, bool right);
/* The next cell, rows from left to right. NULL and "" are empty. */
void table_cell(struct table *t, enum style style, const char *text);
void table_cellf(struct table *t, enum style style, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* A table of names and values, without heading. A value that is not known (NULL, "", 0) is left out. */
void table_facts(struct table *t); /* its columns */
void table_fact(struct table *t, const char *name, const char *value);
void table_fact_time(struct table *t, const char *name, int64_t at_ns); /* and how long ago */
void table_fact_lines(struct table *t, const char *name, const char *text); /* a row each */
/* Prints it, indented; a column without any text is left out. On a terminal the last column is cut to what fits. */
int table_print(const struct table *t, unsigned indent, bool color);

#endif
