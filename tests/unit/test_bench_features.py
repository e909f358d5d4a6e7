"""What `bench features` writes: the keys that readers rely on, and the growth as a picture."""

import os
from dataclasses import fields
from xml.etree import ElementTree

from operate.bench.features import FeaturesBench, GrowthPoint
from operate.bench.features_curve import curve
from operate.bench.features_lag import LagFigures
from operate.bench.processes import OTHER, cpu_seconds, name_of, spent


def test_the_keys_that_readers_rely_on() -> None:
    told = {each.name for each in fields(FeaturesBench)}
    assert {"rows", "rows_s", "official_client_rows_s", "seed_article_rows_s", "lag_ms"} <= told
    assert {"p50", "p99", "cpu_by_process"} <= {each.name for each in fields(LagFigures)}


def test_the_picture_shows_every_point_on_one_scale() -> None:
    points = [
        GrowthPoint("batch_rows", 1, 1_000),
        GrowthPoint("batch_rows", 1_000, 40_000),
        GrowthPoint("keys", 0, 20_000),
        GrowthPoint("keys", 10, 39_999),
    ]
    picture = ElementTree.fromstring(curve(points, "rows & seconds"))
    texts = {each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")}
    assert {"rows & seconds", "1,000", "40,000", "39,999", "none", "10"} <= texts
    heights = [float(each.attrib["cy"]) for each in picture.iter("{http://www.w3.org/2000/svg}circle")]
    # The more rows a second, the higher: y grows downwards.
    assert heights[1] < heights[2] < heights[0]
    assert heights[1] == min(heights)


def test_processor_time_is_told_by_what_a_process_is() -> None:
    assert name_of("/usr/bin/java -cp jars ServerRunner -port 1 dynamodb") == "DynamoDB Local"
    assert name_of("python -m local.ground.moto -H 127.0.0.1") != name_of("python -m local.ground folder")
    assert name_of("vim") == OTHER
    before = {1: ("a", 1.0), 2: ("b", 5.0), 4: ("c", 1.0)}
    after = {1: ("a", 1.5), 2: ("b", 5.0), 3: ("a", 2.0)}
    # A process that began in between counts from its start; one that did nothing, or is gone, does not count.
    assert spent(before, after) == {"a": 2.5}


def test_this_process_has_processor_time() -> None:
    seconds = cpu_seconds(os.getpid())[os.getpid()][1]
    assert seconds > 0
