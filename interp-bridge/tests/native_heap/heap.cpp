// Operators of C++, right and wrong.
#include <cstdlib>
#include <cstring>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

static void *volatile hidden;
static __attribute__((noinline)) void *opaque(void *p) { hidden = p; return hidden; }

extern "C" {
void containers(long *word) {
    std::map<std::string, std::vector<int>> all;
    for (int i = 0; i < 50; i++)
        all["a key that is too long to lie in the object itself " + std::to_string(i % 7)].push_back(i);
    long sum = 0;
    for (auto &entry : all)
        for (int item : entry.second)
            sum += item;
    *word = sum;
}

void exceptions(long *word) {
    try {
        throw std::runtime_error("a message that has to be kept somewhere");
    } catch (const std::exception &e) {
        *word = std::strlen(e.what()) == 39;
    }
    try {
        opaque(::operator new((std::size_t)-1 / 4));
    } catch (const std::bad_alloc &) {
        *word += 1;
    }
    *word += ::operator new((std::size_t)-1 / 4, std::nothrow) == nullptr;
}

struct alignas(64) Wide { char bytes[64]; };

void operators(long *word) {
    Wide *wide = new Wide;
    *word = (unsigned long)wide % 64 == 0;
    delete (Wide *)opaque(wide);
    Wide *row = new Wide[3];
    delete[] (Wide *)opaque(row);
    int *one = new int(3);
    *word += *one == 3;
    delete (int *)opaque(one);
    int *none = new int[0];
    delete[] (int *)opaque(none);
    int *quiet = new (std::nothrow) int(4);
    delete (int *)opaque(quiet);
}

void free_of_new(long *word) {
    int *p = new int(1);
    std::free(opaque(p));
    *word = *p;
}

void delete_of_malloc(long *word) {
    void *p = opaque(std::malloc(4));
    ::operator delete(p);
    *word = 1;
}

void delete_of_array(long *word) {
    int *p = (int *)opaque(new int[5]);
    ::operator delete(p);
    *word = 1;
}

void delete_as_other_type(long *word) {
    long *p = (long *)opaque(new long[1]);
    ::operator delete[](p, (std::size_t)16);
    *word = 1;
}
}
