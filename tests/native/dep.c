/* A dependency of uses_dep.c: its symbols are not the named library's. */
#include "fx.h"
EXPORT int dep_only(int v) { return v + 1; }
