/* How SQLite opens its files: sql_files.c. */
#ifndef MINTFS_CATALOG_SQL_FILES_H
#define MINTFS_CATALOG_SQL_FILES_H

/* In place from the first connection on, for the whole process. */
void sql_files_install(void);

#endif
