"""Real models with real labelled data, fetched into a cache folder that git ignores.

``python -m benchmarks.subjects fetch [NAME ...]`` makes one folder per subject::

    <cache>/<name>/model.onnx        the float model, as its exporter left it
                   calibration.npz   what a user would pass as --data
                   test.npz          held out: only for figures that are reported
                   subject.json      where everything came from, shapes, counts, float metric

Both ``.npz`` files hold one array per model input, under the input's name, first axis = samples,
and ``labels`` (int64), a class or what else the metric counts. No sample is in both.
``benchmarks.subjects.table`` lists the subjects. Those of ``benchmarks.subjects.verdicts`` come
without labels: a ``data.npz`` in place of both.
"""
