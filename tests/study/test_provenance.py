from hsa.study.provenance import provenance
from hsa.study.study import load


def test_provenance_names_what_made_a_result_but_no_date_and_no_path():
    stamp = provenance(load("smoke", seed=3), stain="P53")
    assert stamp["study"] == "smoke" and stamp["seeds"] == [3] and stamp["stain"] == "P53"
    assert stamp == provenance(load("smoke", seed=3), stain="P53")
    assert not any("/" in str(value) for value in stamp.values())
