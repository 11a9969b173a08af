"""The words of what XLA hands over and of what the handler keeps: numbers only.

Offsets in bytes are those of the structures in xla/ffi/api/c_api.h, which jaxlib has among its
headers.
"""

MAJOR, MINOR = 0, 3  # the version of the interface that the offsets belong to

# XLA_FFI_CallFrame, and its arguments, results and attributes
EXTENSION, INTERFACE, CONTEXT, STAGE = 8, 16, 24, 32
ARGUMENT_COUNT, ARGUMENTS = 56, 72
RESULT_COUNT, RESULTS = 96, 112
ATTRIBUTE_COUNT, ATTRIBUTE_TYPES, ATTRIBUTES = 136, 144, 160
FUTURE = 168
EXECUTE = 3  # the only stage with something to do
ARRAY = 1  # the type of an attribute

# XLA_FFI_Metadata_Extension, and XLA_FFI_Metadata
EXTENSION_TYPE, METADATA = 8, 24
IS_METADATA = 1
ANSWER_MAJOR, ANSWER_MINOR = 24, 28

# XLA_FFI_Api
API_MAJOR, API_MINOR = 32, 36
ERROR_CREATE, ERROR_DESTROY = 48, 64
SCHEDULE, FUTURE_CREATE, SET_AVAILABLE, SET_ERROR = 136, 152, 160, 168

# The sizes of what its functions take: of one, two and three words after the usual two, and an
# error's, which ends with an int.
SHORT_REQUEST, LONG_REQUEST, SCHEDULE_REQUEST, ERROR_REQUEST = 24, 32, 40, 28

# XLA_FFI_Buffer, and XLA_FFI_Array
DTYPE, DATA, RANK, DIMS = 16, 24, 32, 40
ARRAY_SIZE, ARRAY_DATA = 8, 16

# XLA_FFI_DataType
PRED, S32, S64, U32, F16, F32, F64, BF16 = 1, 4, 5, 8, 10, 11, 12, 16
DTYPES = {"float32": F32, "float64": F64, "bfloat16": BF16, "float16": F16}

# The table of what only this process knows: addresses, and how many threads may work.
THREADS, TASK, ALLOCATE, FREE, ADVISE, SEEN_MAJOR, SEEN_MINOR = range(7)
GET_FLOATS, SET_FLOATS, PYTHON_FLOATS = 7, 8, 9
MESSAGES, KERNELS, TABLE_SIZE = 12, 16, 24
FLOATS_SIZE = 64  # bytes, at least a fenv_t of C

# What may go wrong: the place of its sentence, and its XLA_FFI_Error_Code.
NOT_AS_LOWERED, NO_MEMORY, KERNEL_FAILED = 1, 2, 3
INVALID_ARGUMENT, RESOURCE_EXHAUSTED = 3, 8

# A call's options, an array of int64; of the floats the bits.
(
    KIND,  # of the logits
    BY_ROWS,  # the kernel for many classes
    GIVEN,
    WANTED,
    INDEXED,
    IGNORES,
    IGNORED,
    EPS,
    Z_LOSS,
    CAP,
    OPTION_COUNT,
) = range(11)
# GIVEN: which arrays follow the logits and the targets, in this order.
CLASS_WEIGHT, LABEL_WEIGHT, WHERE, SAMPLE_WEIGHT, COTANGENT, SAVED = 1, 2, 4, 8, 16, 32
# WANTED: which results there are, in this order.
ROWS, STATS, GRAD = 1, 2, 4

# What the threads of one call share, in words of 8 bytes.
(
    NEXT,  # the row block that is taken next
    DONE,  # how many are
    USERS,  # who still looks at this
    PIECES,
    PER_PIECE,
    COUNT,  # rows
    CLASSES,
    FAILED,
    API,
    PROMISE,  # XLA's future, 0 for none
    LOGITS,
    TARGETS,
    TARGETS_KIND,
    WEIGHTS,
    PRESENT,
    SCALES,
    UPS,
    MAXIMA,
    RESTS,
    LOSSES,
    GRADIENT,
    OPTION,  # OPTION_COUNT words
) = range(22)
# Room for the arguments of XLA's functions: of the thread that XLA called, and of any thread.
REQUEST, LAST_REQUEST = OPTION + OPTION_COUNT, OPTION + OPTION_COUNT + 5
STATE_SIZE = LAST_REQUEST + 5
