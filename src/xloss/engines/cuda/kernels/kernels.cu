// What the CUDA engine runs, compiled at run time, once for each set of constants that is needed:
// those of rows.cuh, or SUMS and STORED.
#ifndef XLOSS_ON_HOST
#include "intrinsics.cuh"
#endif
#ifdef SUMS
#include "sums.cuh"
#else
#include "rows.cuh"
#endif
