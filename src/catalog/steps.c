/* The steps from format to format. What a released MintFS has written stays as it is here; what comes new is a new step. */
#include "internal.h"

static const struct schema_step STEPS[] = {
	{2, "PRAGMA user_version=2"},
};

const struct schema_plan schema_current = {CATALOG_FORMAT, STEPS, ARRAY_SIZE(STEPS)};
