/* A small library that keeps stock, with three mistakes that find_bugs.lua finds.
 *
 *   cc -g -O1 -shared -fPIC -o libinventory.so inventory.c
 */
#include <stdlib.h>
#include <string.h>

enum { PLACES = 8, NAME = 32 };

struct item {
    char name[NAME];
    int quantity;
    int price;
};

typedef struct inventory {
    struct item items[PLACES];
    int used;
    const int *reserve;
} inventory;

inventory *inventory_new(void)
{
    return calloc(1, sizeof(inventory));
}

void inventory_free(inventory *stock)
{
    free(stock);
}

/* Adds an item. Returns its place, or -1 if there is no room or the name is too long. */
int inventory_add(inventory *stock, const char *name, int quantity, int price)
{
    if (stock->used == PLACES || strlen(name) >= NAME)
        return -1;
    struct item *item = &stock->items[stock->used];
    strcpy(item->name, name);
    item->quantity = quantity;
    item->price = price;
    return stock->used++;
}

/* Writes an item's name into `label`, cut to what fits into `size` bytes with the NUL.
 * Returns how long the label is. */
int inventory_label(const inventory *stock, int place, char *label, int size)
{
    const char *name = stock->items[place].name;
    int length = 0;
    while (length < size && name[length] != '\0') {
        label[length] = name[length];
        length++;
    }
    label[length] = '\0'; /* mistake: past the end of `label` if the name was cut */
    return length;
}

/* Says how few of each item there must be. The number is copied. */
void inventory_set_reserve(inventory *stock, const int *reserve)
{
    stock->reserve = reserve; /* mistake: the number is not copied */
}

/* Returns of how many items there are too few. */
int inventory_short(const inventory *stock)
{
    int reserve = stock->reserve ? *stock->reserve : 0;
    int count = 0;
    for (int place = 0; place < stock->used; place++)
        count += stock->items[place].quantity < reserve;
    return count;
}

/* Stores the price of an item in `*price` and returns 1, or returns 0 if there is no such item. */
int inventory_price(const inventory *stock, const char *name, int *price)
{
    for (int place = 0; place < stock->used; place++) {
        const struct item *item = &stock->items[place];
        if (strcmp(item->name, name) != 0)
            continue;
        if (item->quantity > 0)
            *price = item->price; /* mistake: no price is stored for what is sold out */
        return 1;
    }
    return 0;
}
