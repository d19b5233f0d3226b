/* SQLite's own input and output made to fail, in builds for tests. */
#ifndef MINTFS_CATALOG_SQL_FAULTS_H
#define MINTFS_CATALOG_SQL_FAULTS_H

#ifdef MINTFS_FAULTS
void sql_faults_install(void);
#else
static inline void sql_faults_install(void) {}
#endif

#endif
