/* A unit of its own: no name or macro of the solution's reaches it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

@PROTOTYPE@; /* made in the solution's unit: calls the function that is tested */

static char *harness_input;
static char *harness_results;
static size_t harness_length, harness_capacity;

/* What is read is never freed: the program ends with the last case. */
static void *harness_grow(void *old, size_t bytes)
{
    void *data = realloc(old, bytes);
    if (data == NULL) {
        fputs("the harness is out of memory\n", stderr);
        exit(EXIT_FAILURE);
    }
    return data;
}

static char *harness_line(void)
{
    char *line = harness_input;
    harness_input = line + strcspn(line, "\n");
    *harness_input++ = '\0';
    return line;
}

static void harness_slurp(void)
{
    size_t length = 0, capacity = 4096, got;
    char *data = harness_grow(NULL, capacity);
    while ((got = fread(data + length, 1, capacity - length - 1, stdin)) > 0) {
        length += got;
        if (length + 1 == capacity)
            data = harness_grow(data, capacity *= 2);
    }
    data[length] = '\0';
    harness_input = data;
}

static void harness_put(const char *text)
{
    size_t length = strlen(text);
    if (harness_length + length + 1 > harness_capacity) {
        harness_capacity = 2 * (harness_length + length + 1);
        harness_results = harness_grow(harness_results, harness_capacity);
    }
    memcpy(harness_results + harness_length, text, length + 1);
    harness_length += length;
}

#define HARNESS_HELPER static __attribute__((unused)) /* no problem has parameters of every type */

HARNESS_HELPER long long harness_read_integer(void)
{
    return strtoll(harness_line(), NULL, 10);
}

HARNESS_HELPER bool harness_read_truth(void)
{
    return strcmp(harness_line(), "true") == 0;
}

HARNESS_HELPER long long *harness_read_integers(size_t *length)
{
    *length = (size_t)harness_read_integer();
    long long *items = harness_grow(NULL, (*length + 1) * sizeof *items);
    for (size_t i = 0; i < *length; i++)
        items[i] = harness_read_integer();
    return items;
}

HARNESS_HELPER const char **harness_read_texts(size_t *length)
{
    *length = (size_t)harness_read_integer();
    const char **items = harness_grow(NULL, (*length + 1) * sizeof *items);
    for (size_t i = 0; i < *length; i++)
        items[i] = harness_line();
    return items;
}

/* Room for one result. Filled with Zs: what the function does not write is neither 0, nor "", nor the last case's. */
HARNESS_HELPER void *harness_room(size_t item)
{
    return memset(harness_grow(NULL, @ROOM@ * item), 'Z', @ROOM@ * item);
}

HARNESS_HELPER void harness_show_integer(long long value)
{
    char text[32];
    snprintf(text, sizeof text, "%lld", value);
    harness_put(text);
}

HARNESS_HELPER void harness_show_truth(bool value)
{
    harness_put(value ? "true" : "false");
}

HARNESS_HELPER void harness_show_integers(const long long *items, size_t length)
{
    if (length > @ROOM@) {
        harness_put("?");
        return;
    }
    harness_put("[");
    for (size_t i = 0; i < length; i++) {
        harness_put(i > 0 ? "," : "");
        harness_show_integer(items[i]);
    }
    harness_put("]");
}

HARNESS_HELPER void harness_show_text(const char *text)
{
    if (memchr(text, '\0', @ROOM@) == NULL) {
        harness_put("?");
        return;
    }
    harness_put("\"");
    for (; *text != '\0'; text++) {
        char shown[8];
        bool plain = *text >= ' ' && *text <= '~' && *text != '\\';
        snprintf(shown, sizeof shown, plain ? "%c" : "\\x%02x", (unsigned char)*text);
        harness_put(shown);
    }
    harness_put("\"");
}

int main(void)
{
    harness_slurp();
    harness_put("\n");
    for (long long left = strtoll(harness_line(), NULL, 10); left > 0; left--) {
        @READ@
        @CALL@
        harness_put("\n");
    }
    harness_put("@END@\n");
    fputs(harness_results, stdout);
    return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
