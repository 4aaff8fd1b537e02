#include <stdbool.h>
#include <stddef.h>
#define main example_main /* a main of the solution's own is compiled, but is not the program's */
#line 1 "solution.c"
@CODE@

#line 1 "harness.c"
// No comment of the other kind from here on: it would end one that the solution has left open.
// A function of another type is an error here.
@DECLARED@;

// By this name the harness, a unit of its own, calls the function, which may be static.
@PROTOTYPE@
{
    @RETURN@@FUNCTION@(@ARGUMENTS@);
}
