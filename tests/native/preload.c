/* A handler that the program has before any native call. It blocks every signal while it runs. */
#include "fx.h"
#include <signal.h>
#include <unistd.h>

__attribute__((visibility("default"))) volatile int fx_preload_count;

EXPORT void fx_preload_handler(int sig) {
    (void)sig;
    if (getppid() > 0) fx_preload_count++;
}
__attribute__((constructor)) static void install(void) {
    struct sigaction act = {.sa_handler = fx_preload_handler, .sa_flags = SA_RESTART};
    sigfillset(&act.sa_mask);
    sigaction(SIGUSR1, &act, NULL);
}
