"""The words of what XLA hands over and of what the handler keeps: numbers only.

Offsets in bytes are those of the structures in xla/ffi/api/c_api.h, which jaxlib has among its
headers.
"""

from ..arguments import TargetsIn

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
ERROR_CREATE, ERROR_DESTROY = 48, 64
SCHEDULE, FUTURE_CREATE, SET_AVAILABLE, SET_ERROR = 136, 152, 160, 168

# The sizes of what its functions take: of one, two and three words after the usual two, and an
# error's, which ends with an int.
SHORT_REQUEST, LONG_REQUEST, SCHEDULE_REQUEST, ERROR_REQUEST = 24, 32, 40, 28

# XLA_FFI_Buffer, and XLA_FFI_Array
DTYPE, DATA, RANK, DIMS = 16, 24, 32, 40
ARRAY_SIZE, ARRAY_DATA = 8, 16

# XLA_FFI_DataType
S32, S64, F32, F64, BF16 = 4, 5, 11, 12, 16
DTYPES = {"float32": F32, "float64": F64, "bfloat16": BF16, "float16": 10}
KINDS = {**DTYPES, "bool": 1, "int32": S32, "int64": S64, "uint32": 8}

# The table of what only this process knows: addresses, and how many threads may work.
THREADS, TASK, ALLOCATE, FREE, ADVISE, GET_FLOATS, SET_FLOATS, PYTHON_FLOATS = range(8)
MESSAGES, KERNELS, TABLE_SIZE = 8, 12, 20
FLOATS_SIZE = 64  # bytes, at least a fenv_t of C

# What may go wrong: the place of its sentence, and its XLA_FFI_Error_Code.
NOT_AS_LOWERED, NO_MEMORY = 1, 2
INVALID_ARGUMENT, RESOURCE_EXHAUSTED = 3, 8

# A call's options, an array of int64; of the floats the bits. KIND is that of the logits, BY_ROWS
# tells the kernel for many classes, SAVED that the statistics are arguments, IGNORES that labels
# like IGNORED are.
KIND, BY_ROWS, SAVED, IGNORES, IGNORED, EPS, Z_LOSS, CAP, OPTION_COUNT = range(9)
# After them, of each argument and each result: its place in FIELDS; how many numbers each row has,
# or the whole of an array without rows; bytes from row to row, 0 where it has none.
FIELD, NUMBERS, STEP, FIELD_KIND, FIELD_SIZE = range(5)
FIELDS = ("logits", *TargetsIn._fields, "cotangent", "losses", "maxima", "tail_sums", "gradient")
FIELD_COUNT = len(FIELDS)
LOGITS, LABELS, PRESENT = 0, 3, 4
COTANGENT, LOSSES, MAXIMA, TAIL_SUMS, GRADIENT = range(8, FIELD_COUNT)

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
    OPTION,  # OPTION_COUNT words
) = range(11)
ADDRESSES = OPTION + OPTION_COUNT  # of FIELDS; 0: not given
STEPS = ADDRESSES + FIELD_COUNT
# Room for the arguments of XLA's functions: of the thread that XLA called, and of any thread.
REQUEST = STEPS + FIELD_COUNT
LAST_REQUEST = REQUEST + 5
STATE_SIZE = LAST_REQUEST + 5
