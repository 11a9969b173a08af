"""Breakages of folders of shards, and of what runs on a Dask cluster."""

from breakages import Breakage

CLI = "src/xloss/cli/"
SHARDS = "tests/test_cli_shards.py::test_"
EVAL = "tests/test_cli_cluster.py::test_"
DASK = "tests/test_dask_cluster.py::test_"

CLUSTER = [
    Breakage(
        rule="eval: shards are joined in the natural order of their names",
        file=CLI + "shards.py",
        old="parts[1::2] = map(int, parts[1::2])",
        new="parts[1::2] = map(str, parts[1::2])",
        test=SHARDS + "shards_are_one_array_in_the_natural_order_of_their_names",
    ),
    Breakage(
        rule="eval: a row of a shard is named by its place in the whole",
        file=CLI + "piece.py",
        old="(0 if i else piece.first) for i, s",
        new="(0 if i else 0) for i, s",
        test=SHARDS + "shards_are_one_array_in_the_natural_order_of_their_names",
    ),
    Breakage(
        rule="eval: of one file of targets a shard takes its own rows",
        file=CLI + "shards.py",
        old="first, first if targets is None else 0, (),",
        new="first, 0, (),",
        test=SHARDS + "one_file_of_targets_for_all",
    ),
    Breakage(
        rule="eval: of equal rows in two pieces the earlier is the worse",
        file=CLI + "worst.py",
        old="sorted([*earlier, *later]",
        new="sorted([*later, *earlier]",
        test=SHARDS + "shards_are_one_array_in_the_natural_order_of_their_names",
    ),
    Breakage(
        rule="eval: what is wrong with a class is not counted again for each piece",
        file="src/xloss/diagnose/report.py",
        old="if found.rule in OF_CLASSES:",
        new="if False:",
        test=SHARDS + "a_weight_that_is_wrong_is_found_once",
    ),
    Breakage(
        rule="eval: a label that is wrong is named by its row in its own file too",
        file=CLI + "piece.py",
        old="if piece.skip != piece.first:",
        new="if False:",
        test=SHARDS + "a_bad_label_is_named_by_file_and_row",
    ),
    Breakage(
        rule="eval: what the workers send is merged in the order of the rows",
        file=CLI + "cluster.py",
        old="for job, future in zip(jobs, client.map(_task(), jobs, pure=False), strict=True):",
        new="for job, future in list(zip(jobs, client.map(_task(), jobs), strict=True))[::-1]:",
        test=EVAL + "a_cluster_gives_the_numbers_of_one_process",
    ),
    Breakage(
        rule="eval: the client leaves the array library to the workers",
        file=CLI + "evaluate.py",
        old="    known(question.backend)\n",
        new="    known(question.backend)\n    Measure(question)\n",
        test=EVAL + "only_the_workers_import_the_array_library",
    ),
    Breakage(
        rule="eval: a shard whose workers die is named",
        file=CLI + "cluster.py",
        old="except KilledWorker as error:",
        new="except ZeroDivisionError as error:",
        test=EVAL + "a_shard_that_kills_its_workers_is_named",
    ),
    Breakage(
        rule="eval: a scheduler that dies leaves one line on stderr",
        file=CLI + "cluster.py",
        old="        logging.disable()\n",
        new="        pass\n",
        test=EVAL + "a_scheduler_that_dies_in_the_middle_is_said",
    ),
    Breakage(
        rule="eval: a scheduler that does not answer is not waited for long",
        file=CLI + "cluster.py",
        old="        _reach(address)\n",
        new="",
        test=EVAL + "addresses_of_no_scheduler",
    ),
    Breakage(
        rule="eval: a cluster without a worker is given up",
        file=CLI + "cluster.py",
        old="elif time.monotonic() - seen > NOBODY:",
        new="elif False:",
        test=EVAL + "a_cluster_without_a_worker",
    ),
    Breakage(
        rule="eval: workers of another xloss are refused",
        file=CLI + "cluster.py",
        old='if answer["xloss"] != __version__:',
        new="if False:",
        test=EVAL + "workers_with_another_xloss",
    ),
    Breakage(
        rule="Dask: which process computes a chunk does not show in any bit",
        file="src/xloss/backends/dask.py",
        old="    each = [parts[..., i, :] for i in range(parts.shape[-2])]\n",
        new="    each = [parts[..., i, :] for i in range(parts.shape[-2])]\n"
        "    each = each[:: -1 if __import__('multiprocessing').parent_process() else 1]\n",
        test=DASK + "every_loss_has_the_bits_of_one_process",
    ),
]
