/* Readers: up to CATALOG_READERS_MAX connections, opened when first needed and kept. A reader in use has a transaction open,
 * which is its snapshot. pool.mutex is never held while a database is touched. */
#include "internal.h"

void pool_init(struct pool *p)
{
	pthread_condattr_t attr;
	pthread_mutex_init(&p->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&p->returned, &attr);
	pthread_condattr_destroy(&attr);
	p->free = NULL;
	p->n_all = p->n_used = 0;
}

/* Readers in other threads are given a moment; one that never ends is a mistake of the caller, and no reason to hang. */
static bool wait_for_readers(struct pool *p)
{
	struct timespec until = ns_timespec(time_monotonic_ns() + NS_PER_SEC);
	SCOPED_LOCK(&p->mutex);
	while (p->n_used > 0) {
		if (pthread_cond_timedwait(&p->returned, &p->mutex, &until) == ETIMEDOUT)
			break;
	}
	return p->n_used == 0;
}

bool pool_release(struct pool *p)
{
	if (!wait_for_readers(p))
		return false;
	while (p->free) {
		struct catalog_conn *conn = p->free;
		p->free = conn->next;
		catalog_disconnect(conn);
	}
	pthread_cond_destroy(&p->returned);
	pthread_mutex_destroy(&p->mutex);
	return true;
}

/* A free connection, or NULL and leave to open one. */
static struct catalog_conn *borrow(struct pool *p)
{
	SCOPED_LOCK(&p->mutex);
	while (!p->free && p->n_all == CATALOG_READERS_MAX)
		pthread_cond_wait(&p->returned, &p->mutex);
	p->n_used++;
	struct catalog_conn *conn = p->free;
	if (conn)
		p->free = conn->next;
	else
		p->n_all++;
	return conn;
}

static void give_back(struct pool *p, struct catalog_conn *conn_or_null)
{
	SCOPED_LOCK(&p->mutex);
	p->n_used--;
	if (conn_or_null) {
		conn_or_null->next = p->free;
		p->free = conn_or_null;
	} else {
		p->n_all--;
	}
	pthread_cond_broadcast(&p->returned); /* a reader may wait, or catalog_close */
}

int catalog_read_begin(struct catalog *c, struct catalog_conn **ret)
{
	struct catalog_conn *conn = borrow(&c->pool);
	int error = conn ? 0 : catalog_connect(c, c->reader_access, &conn);
	if (!error)
		error = sql_run(conn->db, "BEGIN");
	if (error) {
		give_back(&c->pool, conn);
		return error;
	}
	*ret = conn;
	return 0;
}

void catalog_read_end(struct catalog_conn *conn)
{
	if (!conn)
		return;
	struct pool *p = &conn->catalog->pool;
	/* An error may have ended the transaction already. A reader that cannot end it would pin the log for ever: it goes. */
	if (sql_in_transaction(conn->db) && sql_run(conn->db, "END")) {
		catalog_disconnect(conn);
		conn = NULL;
	}
	give_back(p, conn);
}
