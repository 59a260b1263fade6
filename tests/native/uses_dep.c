/* Links to dep.c. `dep_only` must not be callable through this library. */
#include "fx.h"
#include <stdlib.h>
int dep_only(int v);

EXPORT int uses_dep(int v) { return dep_only(v) * 2; }
HIDDEN int hidden_function(int v) { return v; }
static __attribute__((noinline, used)) int static_function(int v) { return v; }
__attribute__((visibility("default"))) int exported_data = 7;
EXPORT int calls_private(int v) { return hidden_function(v) + static_function(v); }
