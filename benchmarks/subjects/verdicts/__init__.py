"""Real models with real inputs and no labels: what tests of the verdict are run on.

``fetch`` makes one folder per model::

    <cache>/<name>/model.onnx     the float model, as its package has it
                   data.npz       one array per model input, first axis = samples
                   data/          in its place where no such array fits: test_data_set_* folders
                   subject.json   where everything came from
"""
