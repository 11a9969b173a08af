"""Breakages of the benchmarks: what they time, read and judge."""

from breakages import Breakage

AT = "conformance/xloss_conformance/speed/"
SPEED = "conformance/test_speed.py::test_"
CLOCK = "conformance/test_clock.py::test_"
CUTS = "conformance/test_speed_scale.py::test_"
SCALE = "conformance/test_scale.py::test_"
BENCH = "tests/test_cli_bench.py::test_"

SPEED_BREAKAGES = [
    Breakage(
        rule="bench: the first runs, which compile, are not timed",
        file=AT + "clock.py",
        old="    times: dict[str, list[float]] = {name: [] for name in calls}\n",
        new="    times = {name: [_once(call, clock)] for name, call in calls.items()}\n",
        test=CLOCK + "calls_take_turns_and_the_first_runs_are_not_timed",
    ),
    Breakage(
        rule="bench: what a user does before a run is not timed",
        file=AT + "clock.py",
        old="    call.before()\n    start = clock()\n",
        new="    start = clock()\n    call.before()\n",
        test=CLOCK + "what_a_user_does_before_a_run_is_not_timed",
    ),
    Breakage(
        rule="bench: the run of a short call after a nap is not timed",
        file=AT + "clock.py",
        old="if estimate[name] < SHORT:",
        new="if estimate[name] < 0:",
        test=CLOCK + "a_turn_of_a_short_call_has_several_runs_after_one_that_is_not_timed",
    ),
    Breakage(
        rule="bench: a slow call leaves the others their time",
        file=AT + "clock.py",
        old="or (spent[name] < seconds",
        new="or (min(spent.values()) < seconds",
        test=CLOCK + "a_slow_call_sits_out_when_its_time_is_spent",
    ),
    Breakage(
        rule="bench: quartiles are those of the runs",
        file=AT + "clock.py",
        old='method="inclusive"',
        new='method="exclusive"',
        test=CLOCK + "a_spread_is_median_least_and_quartiles_in_milliseconds",
    ),
    Breakage(
        rule="bench: the peak is that of the call, not of what came before",
        file=AT + "memory.py",
        old='file.write("5")',
        new='file.write("")',
        test=CLOCK + "the_peak_of_no_memory_is_none",
    ),
    Breakage(
        rule="bench: memory that malloc kept is seen when it is taken again",
        file=AT + "memory.py",
        old="        trim(0)",
        new="        pass",
        test=CLOCK + "the_peak_sees_memory_that_was_freed_before_and_kept_by_malloc",
    ),
    Breakage(
        rule="bench: a target is met from the wanted on",
        file=AT + "targets.py",
        old="got, got >= wanted)",
        new="got, got > wanted)",
        test=SPEED + "a_ratio_is_met_from_the_wanted_on",
    ),
    Breakage(
        rule="bench: the gradient itself is no memory beyond it",
        file=AT + "targets.py",
        old='(entry["nbytes"] if entry["gradient"] else 0)',
        new="0",
        test=SPEED + "memory_beyond_the_gradient_is_five_percent_of_the_logits",
    ),
    Breakage(
        rule="bench: a ratio is rounded down",
        file=AT + "figures.py",
        old="int(value * 100) / 100",
        new="round(value * 100) / 100",
        test=SPEED + "a_target_just_missed_does_not_look_met",
    ),
    Breakage(
        rule="bench: an answer that is not xloss's is not timed",
        file=AT + "contenders.py",
        old="if not abs(got[0] - right[0]) <= loose * abs(right[0]):",
        new="if abs(got[0] - right[0]) > loose * abs(right[0]):",
        test=SPEED + "another_answer_is_not_timed",
    ),
    Breakage(
        rule="bench: no gradient is added to the last one",
        file=AT + "by_torch.py",
        old="            leaf.grad = None",
        new="            pass",
        test=SPEED + "every_contender_computes_the_same[True-torch]",
    ),
    Breakage(
        rule="bench: pictures of one record are the same bytes",
        file=AT + "pictures.py",
        old='"svg.hashsalt": "xloss", ',
        new="",
        test=SPEED + "pictures_are_the_same_for_the_same_record",
    ),
    Breakage(
        rule="bench: what libraries print does not reach stdout",
        file=AT + "processes.py",
        old="    os.dup2(2, 1)  # stdout belongs to the report",
        new="    pass",
        test=BENCH + "a_peer_that_is_not_installed",
    ),
    Breakage(
        rule="bench: a peer that was asked for and is not installed is a refusal",
        file=AT + "bench.py",
        old="for name in plan.peers:",
        new="for name in ():",
        test=BENCH + "a_peer_that_is_not_installed",
    ),
    Breakage(
        rule="bench: no process outlives the command",
        file=AT + "processes.py",
        old="    wait([parent.sentinel])\n    os._exit(1)",
        new="    wait([parent.sentinel])",
        test=BENCH + "a_signal_ends_it_and_its_processes",
    ),
    Breakage(
        rule="bench: matplotlib is asked for before minutes are spent",
        file="src/xloss/cli/bench.py",
        old="            matplotlib()  # before minutes are spent",
        new="            pass",
        test=BENCH + "without_matplotlib_nothing_is_measured",
    ),
    Breakage(
        rule="scale: the tables are what the formulas give",
        file=AT + "scale.py",
        old="START = 6.8e-6",
        new="START = 6.6e-6",
        test=SCALE + "the_page_is_what_the_program_writes",
    ),
    Breakage(
        rule="scale: a newly published run is in the tables",
        file=AT + "publish.py",
        old="        rewrite(record, docs)\n",
        new="",
        test=SCALE + "a_new_run_is_a_new_page",
    ),
    Breakage(
        rule="scale: collectives are those counted in real processes",
        file=AT + "collectives.py",
        old="for each in (wide, wide, size))",
        new="for each in (wide, wide, wide))",
        test=SCALE + "loss_parallel_is_counted_as_the_formulas_say[bfloat16]",
    ),
    Breakage(
        rule="scale: memory held is that counted in real processes",
        file=AT + "collectives.py",
        old="backward=size + 3 * size",
        new="backward=size + 2 * size",
        test=SCALE + "loss_parallel_is_counted_as_the_formulas_say[float32]",
    ),
    Breakage(
        rule="scale: an all-reduce sends every term there and every sum back",
        file=AT + "collectives.py",
        old="return 2 * (ranks - 1) / ranks * self.nbytes",
        new="return 2 * self.nbytes",
        test=SCALE + "what_a_rank_sends_adds_up_to_what_must_be_sent",
    ),
    Breakage(
        rule="bench: every expression in Dask that is timed is the loss",
        file=AT + "by_dask.py",
        old="np.where(here, found, np.float32(0))",
        new="found",
        test=CUTS + "every_expression_in_dask_is_the_loss[chunks1-dask]",
    ),
    Breakage(
        rule="bench: a cluster is timed when the last run's results are forgotten",
        file=AT + "by_dask.py",
        old="not str(key).startswith",
        new='str(key) == "" and not str(key).startswith',
        test=CUTS + "a_cluster_is_timed_when_it_has_forgotten_the_last_results",
    ),
    Breakage(
        rule="bench: a rank that is silent is not waited for",
        file=AT + "ranks.py",
        old="timeout=silence",
        new="timeout=9 * silence",
        test=CUTS + "a_rank_that_hangs_or_dies_is_not_waited_for[silent]",
    ),
    Breakage(
        rule="bench: what is measured of ranks is that of the slowest",
        file=AT + "ranks.py",
        old="[max(parts) for",
        new="[min(parts) for",
        test=CUTS + "a_call_takes_as_long_as_its_slowest_rank",
    ),
    Breakage(
        rule="bench: memory is judged beside each peer",
        file=AT + "targets.py",
        old='max(beyond(other), ROOM * entry["nbytes"])',
        new='beyond(other) + entry["nbytes"]',
        test=CUTS + "xloss_is_to_be_as_fast_as_each_peer_and_to_hold_no_more",
    ),
]
