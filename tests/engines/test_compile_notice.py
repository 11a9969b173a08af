"""Whoever waits for a compiler is told of it, once that takes long, on the logger "xloss"."""

import logging
import threading
import time

from xloss.engines import compile_notice
from xloss.engines.cuda import build


def ended():
    for thread in threading.enumerate():
        if isinstance(thread, threading.Timer):
            thread.join(10)


def test_only_what_takes_long_is_told_of(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("xloss"), "level", logging.NOTSET)
    monkeypatch.setattr(compile_notice, "PATIENCE", 60)
    with compile_notice.compiling("this"):
        pass
    ended()
    assert caplog.messages == []
    monkeypatch.setattr(compile_notice, "PATIENCE", 0.01)
    with compile_notice.compiling("that"):
        time.sleep(0.5)
    ended()
    (record,) = caplog.records
    assert (record.name, record.levelname) == ("xloss", "WARNING")
    assert record.getMessage().startswith("compiling that; ")


def test_the_cuda_engine_tells_too(tmp_path, caplog, monkeypatch):
    def slow(constants, architecture):
        time.sleep(0.5)
        return b"code", ""

    monkeypatch.setattr(logging.getLogger("xloss"), "level", logging.NOTSET)
    monkeypatch.setattr(compile_notice, "PATIENCE", 0.01)
    monkeypatch.setattr(build, "compile_kernel", slow)
    monkeypatch.setattr(build, "_path", lambda constants, architecture: tmp_path / "x.cubin")
    for _ in range(2):
        assert build.compiled((), "sm_90") == b"code"
        ended()
    assert [m.partition(";")[0] for m in caplog.messages] == [
        "compiling a kernel of the CUDA engine for sm_90"
    ]
