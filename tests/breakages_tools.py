"""Breakages of what stands around the losses: evaluation, diagnosis, command line."""

from breakages import Breakage

RECORD, ROWS = "src/xloss/evaluation/record.py", "src/xloss/evaluation/rows.py"
RULES, REPORT = "src/xloss/diagnose/rules.py", "src/xloss/diagnose/report.py"
CLI = "src/xloss/cli/"
EVALUATION = "tests/test_evaluation.py::test_"
DIAGNOSE = "tests/test_diagnose.py::test_"
EVAL = "tests/test_cli_eval.py::test_"
FILES = "tests/test_cli_files.py::test_"

EVALUATION_BREAKAGES = [
    Breakage(
        rule="evaluation: merging keeps the rounding error of the sum",
        file=RECORD,
        old="low = self.low + other.low + error",
        new="low = self.low + other.low",
        test=EVALUATION + "a_billion_rows_in_batches",
    ),
    Breakage(
        rule="evaluation: the rows of one batch are added up exactly",
        file=RECORD,
        old="low = np.append(low[:half] + low[half : 2 * half] + error, low[2 * half :])",
        new="low = np.append(low[:half] + low[half : 2 * half], low[2 * half :])",
        test=EVALUATION + "many_rows_of_one_batch_lose_nothing",
    ),
    Breakage(
        rule="evaluation: an odd row is not lost when rows are added in pairs",
        file=RECORD,
        old="high = np.append(total, high[2 * half :])",
        new="high = total",
        test=EVALUATION + "the_loss_is_the_mean_of_cross_entropy",
    ),
    Breakage(
        rule="evaluation: the low parts of the sums reach the loss",
        file=RECORD,
        old="first + correction if isfinite(correction) else first",
        new="first",
        test=EVALUATION + "the_low_part_reaches_the_loss",
    ),
    Breakage(
        rule="evaluation: a loss that is not finite stays so when merged",
        file=RECORD,
        old="        if not isfinite(total):\n            return Sum(total)\n",
        new="        if not isfinite(total):\n            return Sum(min(self.high, other.high))\n",
        test=EVALUATION + "a_loss_that_is_not_finite_stays_so",
    ),
    Breakage(
        rule="evaluation: the mean over nothing is 0",
        file=RECORD,
        old="if weight else 0.0",
        new="if weight else nan",
        test=EVALUATION + "nothing_counted_costs_nothing_and_has_no_accuracy",
    ),
    Breakage(
        rule="evaluation: a row of no weight is not counted",
        file=RECORD,
        old="self._counted += int(np.count_nonzero(batch.weights))",
        new="self._counted += batch.weights.size",
        test=EVALUATION + "weights_decide_what_is_counted_and_not_how_much",
    ),
    Breakage(
        rule="evaluation: a row whose loss is NaN is never right",
        file=ROWS,
        old="& ~np.isnan(numbers[0])",
        new="",
        test=EVALUATION + "a_bad_label_is_never_right",
    ),
    Breakage(
        rule="evaluation: no gradient is recorded",
        file=ROWS,
        old="return x if detach is None else detach()",
        new="return x",
        test=EVALUATION + "torch_records_no_gradient",
    ),
    Breakage(
        rule="evaluation: merging changes neither side",
        file=RECORD,
        old="return Evaluation(*(a + b for a, b in pairs))",
        new="self.__init__(*(a + b for a, b in pairs)); return self",
        test=EVALUATION + "merging_changes_neither_side",
    ),
    Breakage(
        rule="evaluation: a record of another schema is refused",
        file=RECORD,
        old='if numbers.get("schema") != SCHEMA:',
        new='if "schema" not in numbers:',
        test=EVALUATION + "a_broken_record_is_refused",
    ),
]

DIAGNOSE_BREAKAGES = [
    Breakage(
        rule="diagnose: absent rows are exempt",
        file=RULES,
        old="keep &= targets != spec.ignore_index",
        new="pass",
        test=DIAGNOSE + "absent_rows_are_exempt",
    ),
    Breakage(
        rule="diagnose: positions are those in the whole, not in a block",
        file=RULES,
        old="a + (s.start or 0) for a, s",
        new="a for a, s",
        test=DIAGNOSE + "positions_in_many_blocks_and_axes",
    ),
    Breakage(
        rule="diagnose: a class without weight may be masked",
        file=RULES,
        old="asked &= (share != 0) & (spec.label_smoothing < 1)",
        new="asked &= spec.label_smoothing < 1",
        test=DIAGNOSE + "each_rule",
    ),
    Breakage(
        rule="diagnose: overflow is what nothing else explains",
        file=RULES,
        old='"overflow", failed & ~explained,',
        new='"overflow", failed,',
        test=DIAGNOSE + "each_rule",
    ),
    Breakage(
        rule="diagnose: the cap is applied before logits are judged",
        file=RULES,
        old="z = host(link(o.x, spec, cx))[failed]",
        new="z = host(cast(cx, o.x, cx.acc))[failed]",
        test=DIAGNOSE + "each_rule",
    ),
    Breakage(
        rule="diagnose: a bad label is found and never raised",
        file="src/xloss/diagnose/__init__.py",
        old="softcap=softcap, validate=False,",
        new="softcap=softcap, validate=validate,",
        test=DIAGNOSE + "each_rule",
    ),
    Breakage(
        rule="diagnose: only the first few positions are kept",
        file=REPORT,
        old="places[:FIRST], old.explanation",
        new="places, old.explanation",
        test=DIAGNOSE + "only_the_first_positions_are_named",
    ),
    Breakage(
        rule="diagnose: values are read in blocks",
        file=RULES,
        old="cuts(rows, classes, cx) if known else",
        new="",
        test=DIAGNOSE + "memory_stays_near_a_block",
    ),
]

FILES_BREAKAGES = [
    Breakage(
        rule="files are never unpickled",
        file=CLI + "files.py",
        old="    if dtype.hasobject:\n",
        new="    if False:\n",
        test=FILES + "nothing_is_ever_unpickled",
    ),
    Breakage(
        rule="a truncated file is refused",
        file=CLI + "files.py",
        old="if size < needed:",
        new="if False:",
        test=FILES + "a_wrong_file_is_one_clear_line",
    ),
    Breakage(
        rule="whatever the parser of a header raises is one clear line",
        file=CLI + "files.py",
        old="    except Exception as error:  # NumPy",
        new="    except ValueError as error:  # NumPy",
        test=FILES + "damage_is_a_file_problem_or_harmless",
    ),
    Breakage(
        rule="a broken .npz is one clear line",
        file=CLI + "files.py",
        old="zipfile.BadZipFile, zlib.error, ValueError",
        new="zlib.error, ValueError",
        test=FILES + "damage_is_a_file_problem_or_harmless",
    ),
    Breakage(
        rule="a file of another kind than its name says is refused",
        file=CLI + "files.py",
        old="        if found != kind:\n",
        new="        if not found:\n",
        test=FILES + "a_wrong_file_is_one_clear_line",
    ),
    Breakage(
        rule="what was read of a .npy file is given back",
        file=CLI + "files.py",
        old="self._map.madvise(mmap.MADV_DONTNEED)",
        new="pass",
        test=FILES + "what_is_read_is_given_back",
    ),
    Breakage(
        rule="a large .safetensors file takes the memory of a block",
        file=CLI + "files.py",
        old="        # The library maps the file; a new map has nothing in memory yet.\n"
        '        self._handle = self._open(self._file, framework="numpy")\n',
        new="        return None\n",
        test=EVAL + "a_large_file_takes_the_memory_of_a_block",
    ),
    Breakage(
        rule="blocks have the machine's byte order",
        file=CLI + "files.py",
        old="return block if block.dtype.isnative else",
        new="return block if True else",
        test=FILES + "memory_order_and_byte_order_do_not_show",
    ),
    Breakage(
        rule="with exactly one array its name is implied, with several it is not",
        file=CLI + "files.py",
        old="if len(names) > 1:",
        new="if False:",
        test=FILES + "one_of_several_is_named",
    ),
]

EVAL_BREAKAGES = [
    Breakage(
        rule="eval: logits are read in blocks",
        file=CLI + "piece.py",
        old="max(1, BLOCK // files.classes)",
        new="10**12",
        test=EVAL + "a_large_file_takes_the_memory_of_a_block",
    ),
    Breakage(
        rule="eval: blocks do not show in the worst rows",
        file=CLI + "worst.py",
        old="row_name(at, start)",
        new="row_name(at, (0,) * len(start))",
        test=EVAL + "blocks_do_not_show",
    ),
    Breakage(
        rule="eval: NaN is worse than any loss",
        file=CLI + "worst.py",
        old="np.lexsort((-chosen, ~np.isnan(chosen)))",
        new="np.lexsort((-chosen, np.isnan(chosen)))",
        test=EVAL + "worst_rows_in_order",
    ),
    Breakage(
        rule="eval: an ignored row is never among the worst",
        file=CLI + "worst.py",
        old="block.weights.reshape(-1) != 0",
        new="block.weights.reshape(-1) > -1",
        test=EVAL + "worst_rows_in_order",
    ),
    Breakage(
        rule="eval: numbers that are not finite are spelled out in JSON",
        file=CLI + "output.py",
        old="return str(value)",
        new="return value",
        test=EVAL + "infinity_is_spelled_out",
    ),
    Breakage(
        rule="eval: the findings say why a loss is not finite",
        file=CLI + "piece.py",
        old="look(call, got, found, start)",
        new="pass",
        test=EVAL + "findings_say_why_a_loss_is_not_finite",
    ),
    Breakage(
        rule="eval: a bad label is refused, in the file's own dtype",
        file=CLI + "piece.py",
        old="targets = _labels(targets, start",
        new="_labels(targets.astype(np.int8), start",
        test=EVAL + "what_does_not_fit_is_refused",
    ),
    Breakage(
        rule="eval: a bad label is named by its row in the whole",
        file=CLI + "piece.py",
        old="row = row_name(at, start)",
        new="row = row_name(at, (0,) * len(start))",
        test=EVAL + "a_bad_label_is_named_by_its_place_in_the_whole",
    ),
    Breakage(
        rule="eval: float64 stays float64 on JAX",
        file=CLI + "backends.py",
        old='config.update("jax_enable_x64", True)',
        new='config.update("jax_enable_x64", False)',
        test=EVAL + "backends_agree",
    ),
    Breakage(
        rule="eval: what a command says to people goes to stderr, JSON alone to stdout",
        file=CLI + "show.py",
        old="console = Console(stderr=True)",
        new="console = Console(force_terminal=True)",
        test=EVAL + "json_is_alone_on_stdout",
    ),
    Breakage(
        rule="cli: a refusal is exit code 2",
        file=CLI + "output.py",
        old="COULD_NOT_RUN = 2",
        new="COULD_NOT_RUN = 1",
        test=EVAL + "a_refusal_is_one_line_and_exit_code_2",
    ),
    Breakage(
        rule="cli: without its extra the command says what to install",
        file=CLI + "__init__.py",
        old='NEEDED = {"typer", "rich", "click"}',
        new='NEEDED = {"typer"}',
        test=EVAL + "without_the_extra_the_command_says_what_to_install",
    ),
    Breakage(
        rule="cli: a backend that is not installed is named, with the line that installs it",
        file=CLI + "backends.py",
        old="    except ImportError as error:\n        if isinstance(error, ModuleNotFoundError)",
        new="    except OSError as error:\n        if isinstance(error, ModuleNotFoundError)",
        test=EVAL + "a_backend_that_is_not_installed",
    ),
    Breakage(
        rule="engines: what is missing comes with the line that installs it",
        file=CLI + "machine.py",
        old='"install": support.install}',
        new='"install": None}',
        test=EVAL + "engines_tells_what_is_here_and_what_installs_the_rest",
    ),
]

TOOLS = EVALUATION_BREAKAGES + DIAGNOSE_BREAKAGES + FILES_BREAKAGES + EVAL_BREAKAGES
