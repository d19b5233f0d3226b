/* The places of a bundle: what stands where in the archive. One page, since export and import must agree on it. Private to the room. */
#ifndef BUNDLE_LAYOUT_H
#define BUNDLE_LAYOUT_H

#include "tar.h"

#include <mintfs/manifest.h>

#define BUNDLE_README "README"
#define BUNDLE_MANIFEST "manifest.json"
#define BUNDLE_SUM "manifest.json.sha256"
#define BUNDLE_PIECE (1u << 20)

/* saved_models/MODEL[/NAME], saved_models/MODEL/vN[/PATH]; -ENAMETOOLONG */
int bundle_model_path(char out[TAR_NAME_MAX], const char *model, const char *name);
int bundle_version_path(char out[TAR_NAME_MAX], const char *model, uint32_t number, const char *path);

#endif
