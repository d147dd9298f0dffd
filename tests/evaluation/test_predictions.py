import pandas as pd
import pytest

from hsa.errors import InputError
from hsa.evaluation.predictions import read_predictions


@pytest.fixture
def frame():
    rows = [
        {"case_id": f"{i:03}", "patient_id": f"P{i}", "fold": (i + shift) % 3, "split": split, "label": i % 2}
        for split, shift in (("val", 1), ("test", 0))
        for i in range(6)
    ]
    return pd.DataFrame(rows).assign(score=[0.1 + 0.2] * 12, pred=0)


def test_what_is_read_is_what_was_written(frame, tmp_path):
    frame.to_csv(tmp_path / "predictions.csv", index=False)
    found = read_predictions(tmp_path)
    pd.testing.assert_frame_equal(found, frame.drop(columns="pred"), check_dtype=False)
    assert found["case_id"][1] == "001" and found["score"][0] == 0.1 + 0.2


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("score", ["", "nan", "NaN", "inf", "-inf", "-0.1", "1.0001", "5", "high", "1e999", "None", "True"]),
        ("label", ["", "nan", "2", "-1", "0.5", "positive"]),
        ("fold", ["", "nan", "-1", "0.5", "first", "9" * 30]),
        ("split", ["", "train", "Test", "nan "]),
        ("case_id", [""]),
        ("patient_id", [""]),
    ],
)
def test_a_cell_that_is_no_prediction_is_refused_with_its_row(frame, tmp_path, column, values):
    for value in values:
        wrong = frame.astype(object)
        wrong.loc[3, column] = value
        wrong.to_csv(tmp_path / "predictions.csv", index=False)
        with pytest.raises(InputError, match=rf"predictions\.csv: row 5: {column} .*, expected .*`hsa train`"):
            read_predictions(tmp_path)


def test_a_file_that_is_cut_or_lacks_a_column_is_refused(frame, tmp_path):
    path = tmp_path / "predictions.csv"
    with pytest.raises(InputError, match=r"no such file\. Train the method first"):
        read_predictions(tmp_path)
    for cut in (frame[:-1], frame[frame["split"] == "test"], pd.concat([frame, frame[:1]])):
        cut.to_csv(path, index=False)
        with pytest.raises(InputError, match="expected every case once in each"):
            read_predictions(tmp_path)
    frame.drop(columns="score").to_csv(path, index=False)
    with pytest.raises(InputError, match="column 'score' is missing"):
        read_predictions(tmp_path)
    frame[:0].to_csv(path, index=False)
    with pytest.raises(InputError, match="no row"):
        read_predictions(tmp_path)
    for data in (b"", b"\xff\xfe", b"PK\0", b"case_id,case_id\n1,2\n", b'case_id,score\n"a'):
        path.write_bytes(data)
        with pytest.raises(InputError, match=r"(?s)predictions\.csv.*`hsa train`"):
            read_predictions(tmp_path)
