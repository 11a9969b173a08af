// The source that is compiled at run time, once for each set of constants that a call needs: those of
// staging.cuh for a kernel of rows (and those of pixels.cuh), or SUMS, STORED, LABELS and WEIGHED for a kernel that
// adds rows up.
#ifndef XLOSS_ON_HOST
#include "intrinsics.cuh"
#endif
#ifdef SUMS
#include "sums.cuh"
#elif STAGE == 4
#include "pieces.cuh"
#elif STAGE == 5
#include "finish.cuh"
#elif PIXELS
#include "pixels.cuh"
#else
#include "rows.cuh"
#endif
