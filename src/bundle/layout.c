/* The places of a bundle: layout.h. */
#include "layout.h"

#include <errno.h>
#include <stdio.h>

int bundle_model_path(char out[TAR_NAME_MAX], const char *model, const char *name)
{
	int n = snprintf(out, TAR_NAME_MAX, "saved_models/%s%s%s", model, name ? "/" : "", name ? name : "");
	return n < 0 || n >= TAR_NAME_MAX ? -ENAMETOOLONG : 0;
}

int bundle_version_path(char out[TAR_NAME_MAX], const char *model, uint32_t number, const char *path)
{
	int n = snprintf(out, TAR_NAME_MAX, "saved_models/%s/v%u%s%s", model, number, path ? "/" : "", path ? path : "");
	return n < 0 || n >= TAR_NAME_MAX ? -ENAMETOOLONG : 0;
}
