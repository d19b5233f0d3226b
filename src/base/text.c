/* Strict UTF-8, hexadecimal, numbers, and one-line sentences.
 *
 * UTF-8 is judged by table 3-7 of the Unicode standard: no overlong forms, no surrogates, nothing above U+10FFFF. The
 * same step serves the grammar (refuse), JSON (replace) and sentences (never cut a character in two). */
#include "text.h"

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

static bool is_tail(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

size_t utf8_sequence(const unsigned char *p, size_t len)
{
	if (len == 0)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	if (p[0] < 0xe0)
		return len >= 2 && is_tail(p[1]) ? 2 : 0;
	if (p[0] < 0xf0) {
		if (len < 3 || !is_tail(p[1]) || !is_tail(p[2]))
			return 0;
		if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f))
			return 0; /* overlong; surrogates U+D800 to U+DFFF */
		return 3;
	}
	if (len < 4 || !is_tail(p[1]) || !is_tail(p[2]) || !is_tail(p[3]))
		return 0;
	if ((p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0; /* overlong; above U+10FFFF */
	return 4;
}

bool utf8_valid(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;

	while (len > 0) {
		size_t n = utf8_sequence(p, len);
		if (n == 0)
			return false;
		p += n;
		len -= n;
	}
	return true;
}

/* The length text[0..len) has when cut to at most `keep` bytes without splitting a character. */
static size_t cut_between_characters(const char *text, size_t keep)
{
	size_t n = keep;

	while (n > 0 && keep - n < 4 && is_tail((unsigned char)text[n]))
		n--;
	return is_tail((unsigned char)text[n]) ? keep : n; /* no UTF-8 at all: any place will do */
}

unsigned utf8_command(const char *text, size_t left, size_t *ret_len)
{
	const unsigned char *p = (const unsigned char *)text;
	unsigned code = 0;
	size_t n = utf8_sequence(p, left);

	if (n == 1 && (p[0] < 0x20 || p[0] == 0x7f))
		code = p[0];
	else if (n == 2 && p[0] == 0xc2 && p[1] < 0xa0) /* U+0080 to U+009F: CSI and its like */
		code = p[1];
	else if (n == 3 && p[0] == 0xe2)
		code = 0x2000u | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
	if (code > 0xff && !(code >= 0x202a && code <= 0x202e) && !(code >= 0x2066 && code <= 0x2069))
		code = 0;
	if (code)
		*ret_len = n;
	return code;
}

/* Names of files and what else comes from anybody stands in sentences that people read on a terminal, or in the log by `cat`. */
static void make_plain(char *text, size_t len)
{
	for (size_t at = 0, n; at < len; at += n ? n : 1) {
		n = utf8_sequence((const unsigned char *)text + at, len - at);
		if (n == 0 || utf8_command(text + at, len - at, &n))
			memset(text + at, '?', n ? n : 1);
	}
}

size_t text_vformat(char *dst, size_t size, const char *fmt, va_list ap)
{
	char text[TEXT_FORMAT_MAX];
	size_t len;
	int n;

	if (size > sizeof(text))
		size = sizeof(text);
	n = vsnprintf(text, size, fmt, ap);
	if (n < 0)
		n = snprintf(text, size, "?");
	len = (size_t)n;
	if (len >= size) {
		len = cut_between_characters(text, size - 4);
		memcpy(text + len, "...", 4);
		len += 3;
	}
	make_plain(text, len);
	memcpy(dst, text, len + 1);
	return len;
}

void hex_encode(const uint8_t *bytes, size_t n, char *out)
{
	static const char digits[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		out[2 * i] = digits[bytes[i] >> 4];
		out[2 * i + 1] = digits[bytes[i] & 15];
	}
	out[2 * n] = '\0';
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

int hex_decode(const char *hex, size_t n_bytes, uint8_t *out)
{
	if (strnlen(hex, 2 * n_bytes + 1) != 2 * n_bytes)
		return -EINVAL;
	for (size_t i = 0; i < 2 * n_bytes; i++) {
		if (hex_digit(hex[i]) < 0)
			return -EINVAL;
	}
	for (size_t i = 0; i < n_bytes; i++)
		out[i] = (uint8_t)((unsigned)hex_digit(hex[2 * i]) << 4 | (unsigned)hex_digit(hex[2 * i + 1]));
	return 0;
}

int parse_u64(const char *text, uint64_t max, uint64_t *ret)
{
	uint64_t value = 0;
	bool over = false;

	if (*text == '\0')
		return -EINVAL;
	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9')
			return -EINVAL;
		uint64_t digit = (uint64_t)(*p - '0');
		if (over || value > (UINT64_MAX - digit) / 10)
			over = true; /* read on: a letter further on is -EINVAL */
		else
			value = value * 10 + digit;
	}
	if (over || value > max)
		return -ERANGE;
	*ret = value;
	return 0;
}

int text_copy(char *dst, size_t size, const char *src)
{
	size_t len = strlen(src);

	if (len >= size)
		return -ENAMETOOLONG;
	memcpy(dst, src, len + 1);
	return 0;
}
