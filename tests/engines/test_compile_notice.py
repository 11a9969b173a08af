"""Whoever waits for a compiler is told of it, once that takes long, on the logger "xloss"."""

import logging
import threading
import time

from xloss.engines import compile_notice
from xloss.engines.cuda import build


def test_only_what_takes_long_is_told_of(caplog, monkeypatch, tmp_path):
    """Of the CUDA engine here; what is on disk is not compiled, and what is quick ends before."""

    def slow(constants, architecture):
        time.sleep(0.5)
        return b"code", ""

    monkeypatch.setattr(logging.getLogger("xloss"), "level", logging.NOTSET)
    monkeypatch.setattr(compile_notice, "PATIENCE", 0.01)
    monkeypatch.setattr(build, "compile_kernel", slow)
    monkeypatch.setattr(build, "_path", lambda constants, architecture: tmp_path / "x.cubin")
    for _ in range(2):
        assert build.compiled((), "sm_90") == b"code"
    monkeypatch.setattr(compile_notice, "PATIENCE", 60)
    with compile_notice.compiling("this"):
        pass
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(10)
    told = [(r.name, r.levelname, r.getMessage().partition(";")[0]) for r in caplog.records]
    assert told == [("xloss", "WARNING", "compiling a kernel of the CUDA engine for sm_90")]
