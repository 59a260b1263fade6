/* Native code that walks its stack, as an exception does. In a library of its own: a library that
 * imports an unwinder is probed in another way. */
#include <unwind.h>

#include "fx.h"

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *count) {
    (void)context;
    ++*(int *)count;
    return _URC_NO_REASON;
}

/* Calls itself `depth` times and writes how many frames the unwinder finds from there. */
EXPORT int unwind_frames(int *p, int depth) {
    if (depth > 0) {
        int found = unwind_frames(p, depth - 1);
        __asm__ volatile("" ::: "memory");
        return found;
    }
    int count = 0;
    _Unwind_Backtrace(frame, &count);
    p[0] = count;
    return count;
}
