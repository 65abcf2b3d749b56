import os

# Where tests run side by side, each gets one thread: threads of numpy and torch, which take all
# cores for each test, would only wait for one another. onnxruntime has one thread by our default.
# It stands here because numpy reads it when it is first imported; programs that tests start
# inherit it.
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("OMP", "OPENBLAS", "MKL", "VECLIB_MAXIMUM"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
