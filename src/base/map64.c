/* Hash map from uint64_t to a pointer: open addressing with linear probing.
 *
 * Invariants: the number of slots is a power of two and at least a quarter of them is empty (value NULL), so every probe
 * ends; between a key's home slot and its slot there is no empty one (removal moves later entries back). */
#include <mintfs/util.h>

#include <errno.h>
#include <stdlib.h>

struct slot {
	uint64_t key;
	void *value; /* NULL: empty */
};

struct map64 {
	struct slot *slots;
	size_t mask; /* slots - 1 */
	size_t count;
};

#define MAP64_FIRST_SLOTS 16

/* The finalizer of splitmix64: keys are often small and consecutive. */
static size_t home(const struct map64 *m, uint64_t key)
{
	key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9ULL;
	key = (key ^ key >> 27) * 0x94d049bb133111ebULL;
	return (size_t)(key ^ key >> 31) & m->mask;
}

/* The slot of key, or the empty one where it would stand. */
static struct slot *probe(const struct map64 *m, uint64_t key)
{
	size_t i = home(m, key);

	while (m->slots[i].value && m->slots[i].key != key)
		i = (i + 1) & m->mask;
	return &m->slots[i];
}

struct map64 *map64_new(void)
{
	struct map64 *m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->slots = calloc(MAP64_FIRST_SLOTS, sizeof(*m->slots));
	if (!m->slots) {
		free(m);
		return NULL;
	}
	m->mask = MAP64_FIRST_SLOTS - 1;
	return m;
}

void map64_free(struct map64 *m)
{
	if (!m)
		return;
	free(m->slots);
	free(m);
}

void *map64_get(const struct map64 *m, uint64_t key)
{
	return probe(m, key)->value;
}

static int grow(struct map64 *m)
{
	struct map64 bigger = {.mask = m->mask * 2 + 1, .count = m->count};

	bigger.slots = calloc(bigger.mask + 1, sizeof(*bigger.slots));
	if (!bigger.slots)
		return -ENOMEM;
	for (size_t i = 0; i <= m->mask; i++) {
		if (m->slots[i].value)
			*probe(&bigger, m->slots[i].key) = m->slots[i];
	}
	free(m->slots);
	*m = bigger;
	return 0;
}

int map64_put(struct map64 *m, uint64_t key, void *value)
{
	struct slot *s = probe(m, key);

	if (s->value) {
		s->value = value;
		return 0;
	}
	if ((m->count + 1) * 4 > (m->mask + 1) * 3) {
		int r = grow(m);
		if (r < 0)
			return r;
		s = probe(m, key);
	}
	*s = (struct slot){key, value};
	m->count++;
	return 0;
}

void *map64_remove(struct map64 *m, uint64_t key)
{
	struct slot *s = probe(m, key);
	void *value = s->value;
	size_t hole, i;

	if (!value)
		return NULL;
	hole = (size_t)(s - m->slots);
	for (i = (hole + 1) & m->mask; m->slots[i].value; i = (i + 1) & m->mask) {
		/* an entry moves into the hole unless its home lies behind the hole */
		if (((i - home(m, m->slots[i].key)) & m->mask) >= ((i - hole) & m->mask)) {
			m->slots[hole] = m->slots[i];
			hole = i;
		}
	}
	m->slots[hole].value = NULL;
	m->count--;
	return value;
}

size_t map64_count(const struct map64 *m)
{
	return m->count;
}

void map64_each(const struct map64 *m, bool (*fn)(uint64_t key, void *value, void *arg), void *arg)
{
	for (size_t i = 0; i <= m->mask; i++) {
		if (m->slots[i].value && !fn(m->slots[i].key, m->slots[i].value, arg))
			return;
	}
}
