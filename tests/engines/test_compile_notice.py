"""Whoever waits for a compiler is told of it, once that takes long, on the logger "xloss"."""

import logging
import threading
import time

import pytest

from xloss.engines import compile_notice
from xloss.engines.cuda import build


@pytest.fixture
def told(caplog, monkeypatch):
    """What has been told after 0.01 s, once every timer has ended."""

    def messages():
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join(10)
        return [(r.name, r.levelname, r.getMessage().partition(";")[0]) for r in caplog.records]

    monkeypatch.setattr(logging.getLogger("xloss"), "level", logging.NOTSET)
    monkeypatch.setattr(compile_notice, "PATIENCE", 0.01)
    return messages


def test_only_what_takes_long_is_told_of(told, monkeypatch):
    with compile_notice.compiling("that"):
        time.sleep(0.5)
    monkeypatch.setattr(compile_notice, "PATIENCE", 60)
    with compile_notice.compiling("this"):
        pass
    assert told() == [("xloss", "WARNING", "compiling that")]


def test_the_cuda_engine_tells_too(tmp_path, told, monkeypatch):
    def slow(constants, architecture):
        time.sleep(0.5)
        return b"code", ""

    monkeypatch.setattr(build, "compile_kernel", slow)
    monkeypatch.setattr(build, "_path", lambda constants, architecture: tmp_path / "x.cubin")
    for _ in range(2):
        assert build.compiled((), "sm_90") == b"code"
    what = "compiling a kernel of the CUDA engine for sm_90"
    assert told() == [("xloss", "WARNING", what)]
