from onnxcompress.students.record import record, recorded
from tests.helpers import parse, reload


def test_entries_add_up_and_are_kept_in_the_file() -> None:
    model = parse("g (float[2] x) => (float[2] y) { y = Relu(x) }")
    model.envelope.metadata_props.add(key="theirs", value="not ours")
    record(model, "ours", ["a, b"])
    record(model, "ours", ["c"])
    assert recorded(reload(model), "ours") == ["a, b", "c"]
    assert recorded(model, "theirs") == recorded(model, "nobody's") == []
    assert len(model.envelope.metadata_props) == 2
