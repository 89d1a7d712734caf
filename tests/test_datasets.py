import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ilv_dataset.dataset_specs import Camera, DatasetSpec, VectorPart, decode_spec
from ilv_dataset.datasets import (
    adopt_info,
    check_spec,
    dataset_rows,
    detect_spec,
    find_dataset,
    find_mixture,
    is_mixture,
    list_datasets,
    list_mixtures,
    plan_mixture,
    resolve_data_dir,
    unregistered,
)
from ilv_dataset.errors import ConfigError
from ilv_dataset.formats.dataset_info import DatasetInfo, decode_dataset_info
from ilv_dataset.formats.features import Feature, decode_features

RLDS = Path(__file__).resolve().parents[2] / "shared" / "data" / "rlds"
KEYS = (
    "demo bridge bridge_oxe fractal bc_z jaco_play ur5 iamlab hydra mutex sirius ucsd_kitchen "
    "language_table droid"
)


def image(key, *, channels=3, dtype="uint8", rank=0):
    return Feature(f"steps/{key}", "image", dtype, (48, 64, channels), rank, True, "jpeg")


def text(key):
    return Feature(f"steps/{key}", "text", "string", (), 0, True, None)


def outside(feature):
    """The same feature, of the episode and not of its steps."""
    return replace(feature, path=feature.key, in_steps=False)


def numbers(key, *shape, dtype="float32", rank=0):
    return Feature(f"steps/{key}", "tensor", dtype, shape, rank, True, None)


def detect(*features, **options):
    return detect_spec("toy", "1.0.0", features, **options)


def folder_of(*files):
    """The `exists` and `list_names` of a file system that holds these files."""
    paths = {
        str(parent) for file in files for parent in [Path(file), *Path(file).parents]
    }  # fmt: skip

    def list_names(folder):
        return sorted(Path(path).name for path in paths if str(Path(path).parent) == folder)

    return {"exists": paths.__contains__, "list_names": list_names}


# The registry


def test_every_dataset_is_found_by_its_short_name():
    assert [spec.key for spec in list_datasets()] == KEYS.split()
    assert all(find_dataset(spec.key) is spec for spec in list_datasets())


@pytest.mark.parametrize(
    ("name", "key", "tfds_name"),
    [
        ("bridge", "bridge", "bridge_dataset"),
        ("bridge_dataset", "bridge", "bridge_dataset"),
        ("bridge_oxe", "bridge_oxe", "bridge"),
        ("fractal20220817_data", "fractal", "fractal20220817_data"),
        ("ilv_demo", "demo", "ilv_demo"),
    ],
)
def test_find_dataset_by_short_name_and_by_folder(name, key, tfds_name):
    assert (find_dataset(name).key, find_dataset(name).tfds_name) == (key, tfds_name)


def test_find_dataset_when_there_is_none():
    with pytest.raises(ConfigError, match=r"no dataset 'brigde'; did you mean 'bridge'\?"):
        find_dataset("brigde")
    with pytest.raises(ConfigError, match=r"no dataset 'zzz'; known: demo, bridge, .*--data-dir"):
        find_dataset("zzz")
    with pytest.raises(ConfigError, match=r"droid, interleave_210k, or the name of any TFDS"):
        find_dataset("zzz")


@pytest.mark.parametrize(
    ("name", "others", "near"),
    [
        ("BRIDGE", (), "bridge"),
        ("Language_Tabel", (), "language_table"),
        ("interleave_21k", (), "interleave_210k"),
        ("my_robt", ("My_Robot", "other"), "My_Robot"),
    ],
)
def test_find_dataset_names_what_may_have_been_meant(name, others, near):
    with pytest.raises(ConfigError, match=rf"no dataset '{name}'; did you mean '{near}'\?"):
        find_dataset(name, others)


def test_find_dataset_when_nothing_is_near():
    with pytest.raises(ConfigError, match="no dataset 'my_robt'; known: "):
        find_dataset("my_robt")


def test_bridge():
    bridge = find_dataset("bridge")
    assert (bridge.num_episodes, bridge.num_shards, bridge.hz) == (60064, 1152, 5)
    assert [split.name for split in bridge.splits] == ["train", "val"]
    assert bridge.instruction_key == "language_instruction"
    assert bridge.action == (VectorPart("copy", 7, "action", 0, 7),)
    assert bridge.drop_first_step
    keys = [camera.key for camera in bridge.probe_cameras]
    assert keys == ["observation/image_0", "observation/image_1", "observation/image_2"]
    assert len(bridge.cameras) == 4


def test_actions_are_seven_numbers_where_they_are_mapped():
    sizes = {spec.key: sum(part.num_values for part in spec.action) for spec in list_datasets()}
    assert sizes == dict.fromkeys(KEYS.split(), 7)


def test_states():
    joints = [spec.key for spec in list_datasets() if spec.state_kind == "joints"]
    assert joints == ["iamlab", "mutex", "sirius", "ucsd_kitchen"]
    assert find_dataset("ur5").state == (
        VectorPart("copy", 3, "observation/robot_state", 6, 9),
        VectorPart("euler", 3, "observation/robot_state", 9, 13),
        VectorPart("copy", 1, "observation/robot_state", 13, 14),
    )
    assert find_dataset("bc_z").rotation == "axis-angle"


def test_jaco_pads_its_rotation_and_integrates_its_gripper():
    assert find_dataset("jaco_play").action == (
        VectorPart("copy", 3, "action/world_vector", 0, 3),
        VectorPart("zeros", 3),
        VectorPart("rel2abs", 1, "action/gripper_closedness_action", 0, 1),
    )


def test_cameras_whose_channels_are_swapped():
    swapped = [
        f"{spec.key}:{camera.key}"
        for spec in list_datasets()
        for camera in spec.cameras
        if camera.channel_order == "bgr"
    ]
    assert swapped == [
        "ur5:observation/hand_image",
        "hydra:observation/image",
        "hydra:observation/wrist_image",
        "mutex:observation/image",
        "mutex:observation/wrist_image",
    ]


def test_the_main_camera_comes_first():
    assert all(spec.cameras[0].role == "main" for spec in list_datasets())


def test_what_is_unusual():
    assert find_dataset("language_table").instruction_decoder == "codes"
    assert [spec.key for spec in list_datasets() if spec.is_long_instruction] == ["mutex"]
    assert [spec.key for spec in list_datasets() if spec.source_objects] == ["demo"]


def test_dataset_rows_are_json():
    rows = {row["dataset"]: row for row in json.loads(json.dumps(dataset_rows()))}
    assert list(rows) == KEYS.split()
    assert rows["jaco_play"]["splits"] == {"train": 976, "test": 109}
    assert rows["jaco_play"]["episodes"] == 1085
    assert rows["bc_z"]["license"] is None


def test_dataset_rows_say_how_a_dataset_is_read():
    rows = {row["dataset"]: row for row in json.loads(json.dumps(dataset_rows()))}
    assert rows["ur5"]["cameras"] == [
        {
            "key": "observation/image",
            "channel_order": "rgb",
            "role": "main",
            "size": [480, 640],
        },
        {
            "key": "observation/hand_image",
            "channel_order": "bgr",
            "role": "wrist",
            "size": [480, 640],
        },
    ]
    assert rows["jaco_play"]["action"] == [
        {"key": "action/world_vector", "slice": [0, 3], "transform": "copy", "num_values": 3},
        {"key": None, "slice": None, "transform": "zeros", "num_values": 3},
        {
            "key": "action/gripper_closedness_action",
            "slice": [0, 1],
            "transform": "rel2abs",
            "num_values": 1,
        },
    ]
    assert rows["bridge"]["state"] == [
        {"key": "observation/state", "slice": [0, 7], "transform": "copy", "num_values": 7}
    ]
    assert (rows["bridge"]["state_kind"], rows["bc_z"]["rotation"]) == ("pose", "axis-angle")
    assert rows["droid"]["action"][1]["transform"] == "invert"
    assert rows["language_table"]["instruction_decoder"] == "codes"
    assert [key for key, row in rows.items() if row["is_long_instruction"]] == ["mutex"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"action": [{"key": "a", "slice": [0, 6]}]}, "parts of the action do not yield 7"),
        ({"state": [{"key": "s", "slice": [0, 8]}], "state_kind": "pose"}, "pose yield 8"),
        ({"state": [{"key": "s", "slice": [0, 8]}]}, "state and state_kind go together"),
        ({"action": [{"key": "a", "slice": [0, 7], "transform": "flip"}]}, "transform must be"),
        ({"action": [{"key": "a", "slice": [0, 7], "transform": "ones"}]}, "ones with the source"),
        ({"cameras": [{"key": "i", "channel_order": "rbg"}]}, "channel_order must be one of rgb"),
        ({"cameras": [{"key": "i", "role": "hand"}]}, "role must be one of main"),
        ({"instruction_decoder": "utf-8"}, "instruction_decoder must be one of text, codes"),
    ],
)
def test_a_spec_checks_itself(entry, message):
    with pytest.raises(ValueError, match=message):
        decode_spec("toy", {"tfds_name": "toy", "version": "1.0.0", **entry})


def test_importing_the_registry_loads_no_heavy_library():
    heavy = "'numpy', 'pyarrow', 'apache_beam', 'tensorflow', 'tensorflow_datasets', 'torch'"
    code = f"import sys, ilv_dataset.datasets; sys.exit(bool({{{heavy}}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Mixtures


def test_interleave_210k_adds_up():
    mixture = find_mixture("interleave_210k")
    caps = {part.dataset: part.max_episodes for part in mixture.parts}
    assert len(caps) == 11
    assert sum(caps.values()) == 210_000
    assert caps.pop("language_table") == 13_965
    assert caps == {key: find_dataset(key).num_episodes for key in caps}


def test_plan_mixture_leaves_out_what_has_no_instruction():
    plan = plan_mixture(find_mixture("interleave_210k"))
    assert (plan[0].dataset, plan[0].num_episodes) == ("bridge", 60064)
    assert plan[0].num_with_instruction == 42045  # 0.7 * 60064 = 42044.8
    assert sum(row.num_with_instruction for row in plan) == 191_981


def test_find_mixture_when_there_is_none():
    assert is_mixture("interleave_210k")
    assert not is_mixture("bridge")
    with pytest.raises(ConfigError, match="no mixture 'interleave_21k'; did you mean 'interleave_"):
        find_mixture("interleave_21k")


def test_the_datasets_of_every_mixture_are_registered():
    for mixture in list_mixtures():
        assert all(find_dataset(part.dataset).key == part.dataset for part in mixture.parts)


# Where the data is


@pytest.mark.parametrize(
    ("data_dir", "file", "expected"),
    [
        ("/d/bridge_dataset/1.0.0", "/d/bridge_dataset/1.0.0", "/d/bridge_dataset/1.0.0"),
        ("/d/", "/d/bridge_dataset/1.0.0", "/d/bridge_dataset/1.0.0"),
        ("/d/bridge_dataset", "/d/bridge_dataset/1.0.0", "/d/bridge_dataset/1.0.0"),
        ("/d/any", "/d/any/1.0.0", "/d/any/1.0.0"),
        ("/d", "/d/bridge_dataset/1.0.1", "/d/bridge_dataset/1.0.1"),
        ("/d/bridge_dataset", "/d/bridge_dataset/0.9.0", "/d/bridge_dataset/0.9.0"),
    ],
)
def test_resolve_data_dir(data_dir, file, expected):
    files = folder_of(f"{file}/dataset_info.json")
    assert resolve_data_dir(find_dataset("bridge"), data_dir, **files) == expected


def test_resolve_data_dir_prefers_the_version_of_the_registry():
    files = folder_of(
        "/d/bridge_dataset/1.0.0/dataset_info.json", "/d/bridge_dataset/2.0.0/dataset_info.json"
    )
    found = resolve_data_dir(find_dataset("bridge"), "/d", **files)
    assert found == "/d/bridge_dataset/1.0.0"


def test_resolve_data_dir_of_several_other_versions():
    files = folder_of("/d/toy/1.0.0/dataset_info.json", "/d/toy/1.1.0/dataset_info.json")
    with pytest.raises(ConfigError, match=r"1.0.0, 1.1.0; say which with --data-dir /d/toy/1.1.0"):
        resolve_data_dir(unregistered("toy"), "/d", **files)


def test_resolve_data_dir_when_nothing_is_there():
    message = r"no dataset_info.json of bridge; looked in /d, /d/bridge_dataset/1.0.0, /d/1.0.0, "
    with pytest.raises(ConfigError, match=message):
        resolve_data_dir(find_dataset("bridge"), "/d", **folder_of("/d/readme"))


def test_resolve_data_dir_of_an_unregistered_dataset():
    files = folder_of("/d/toy/1.2.3/dataset_info.json", "/d/toy/notes/dataset_info.json")
    assert resolve_data_dir(unregistered("toy"), "/d", **files) == "/d/toy/1.2.3"


@pytest.mark.parametrize("data_dir", ["/d", "/d/weird", "/d/weird/small", "/d/weird/small/2.1.0"])
def test_resolve_data_dir_of_a_builder_config(data_dir):
    files = folder_of(
        "/d/weird/small/2.1.0/dataset_info.json", "/d/weird/notes/readme.md", "/d/weird/x.json"
    )
    assert resolve_data_dir(unregistered("weird"), data_dir, **files) == "/d/weird/small/2.1.0"


def test_resolve_data_dir_of_several_builder_configs():
    files = folder_of(
        "/d/weird/big/2.1.0/dataset_info.json", "/d/weird/small/2.1.0/dataset_info.json"
    )
    message = r"versions big/2.1.0, small/2.1.0; say which with --data-dir /d/weird/small/2.1.0"
    with pytest.raises(ConfigError, match=message):
        resolve_data_dir(unregistered("weird"), "/d", **files)
    found = resolve_data_dir(unregistered("weird"), "/d/weird/big", **files)
    assert found == "/d/weird/big/2.1.0"


def test_resolve_data_dir_falls_back_to_a_source_that_can_be_read():
    files = folder_of("/d/fractal20220817_data/0.1.0/dataset_info.json")
    fractal, ur5, bridge = map(find_dataset, ("fractal", "ur5", "bridge"))
    here = "/d/fractal20220817_data/0.1.0"
    assert resolve_data_dir(fractal, "/d", **files, fallback=True) == here
    there = "gs://gresearch/robotics/berkeley_autolab_ur5/0.1.0"
    assert resolve_data_dir(ur5, "/d", **files, fallback=True) == there
    demo = resolve_data_dir(find_dataset("demo"), "/d", **files, fallback=True)
    assert demo.endswith("ilv_dataset/demo/ilv_demo/1.0.0")
    with pytest.raises(ConfigError, match=r"no dataset_info.json of ur5; looked in /d, "):
        resolve_data_dir(ur5, "/d", **files)
    with pytest.raises(ConfigError, match=r"no dataset_info.json of bridge; looked in /d, "):
        resolve_data_dir(bridge, "/d", **files, fallback=True)


def test_resolve_data_dir_without_one():
    files = folder_of()
    fractal = resolve_data_dir(find_dataset("fractal"), None, **files)
    assert fractal == "gs://gresearch/robotics/fractal20220817_data/0.1.0"
    demo = resolve_data_dir(find_dataset("demo"), None, **files)
    assert demo.endswith("ilv_dataset/demo/ilv_demo/1.0.0")


def test_resolve_data_dir_without_one_says_where_the_data_can_be_had():
    with pytest.raises(
        ConfigError, match=r"bridge is not on .*https://rail.*\(116 GiB\).*--data-d"
    ):
        resolve_data_dir(find_dataset("bridge"), None, **folder_of())
    with pytest.raises(ConfigError, match=r"toy is not registered: say where .* --data-dir DIR"):
        resolve_data_dir(unregistered("toy"), None, **folder_of())


def test_adopt_info_takes_the_version_of_the_folder():
    info = DatasetInfo("bridge_dataset", "", "1.0.1", (), "", "")
    assert adopt_info(find_dataset("bridge"), info).version == "1.0.1"


def test_adopt_info_of_another_dataset():
    info = DatasetInfo("bridge", "", "0.1.0", (), "", "")
    with pytest.raises(ConfigError, match="holds the dataset bridge, expected bridge_dataset for"):
        adopt_info(find_dataset("bridge"), info)


# Checking and detecting keys


def test_check_spec_names_what_is_missing_and_what_is_there():
    features = [image("observation/image"), text("language_instruction")]
    with pytest.raises(ConfigError) as caught:
        check_spec(find_dataset("sirius"), features)
    assert str(caught.value) == (
        "features.json does not fit sirius (austin_sirius_dataset_converted_externally_to_rlds "
        "0.1.0): no observation/wrist_image; no action; no observation/state; the steps hold "
        "observation/image, language_instruction"
    )


@pytest.mark.parametrize(
    ("feature", "fault"),
    [
        (image("observation/image", channels=1), "observation/image is no image of 3 or 4 ch"),
        (numbers("observation/image", 48, 64, 3), "observation/image is no image of 3 or 4"),
        (numbers("language_instruction", 512), "language_instruction is no text"),
        (numbers("action", 6), "action has not the 7 numbers"),
        (numbers("action", None), "action has not the 7 numbers"),
    ],
)
def test_check_spec_names_what_has_another_form(feature, fault):
    spec = DatasetSpec(
        key="toy",
        tfds_name="toy",
        version="1.0.0",
        cameras=(Camera("observation/image"),),
        instruction_key="language_instruction",
        action=(VectorPart("copy", 7, "action", 0, 7),),
    )
    good = [image("observation/image"), text("language_instruction"), numbers("action", 7)]
    check_spec(spec, good)
    check_spec(spec, [image("observation/image", channels=4), outside(good[1]), good[2]])
    with pytest.raises(ConfigError, match=fault):
        check_spec(spec, [feature, *(other for other in good if other.key != feature.key)])


def test_check_spec_of_the_objects_that_a_dataset_carries():
    demo = find_dataset("demo")
    features = [
        image("observation/image"),
        text("language_instruction"),
        numbers("action", 7),
        numbers("observation/state", 7),
        numbers("observation/objects/name", dtype="string", rank=1),
        numbers("observation/objects/bbox", 4, rank=1),
        image("observation/segmentation", channels=1),
    ]
    check_spec(demo, features)
    with pytest.raises(ConfigError, match="no list of boxes observation/objects/bbox"):
        check_spec(demo, [*features[:5], *features[6:]])
    with pytest.raises(ConfigError, match="no label image observation/segmentation"):
        check_spec(demo, features[:6])


def test_detect_spec():
    spec = detect(
        text("language_instruction"),
        text("observation/note"),
        image("observation/hand_image"),
        image("observation/image_1"),
        image("observation/depth_rgb"),
        image("observation/image_0"),
        image("observation/mask", channels=1),
        image("goal"),
    )
    assert (spec.key, spec.tfds_name, spec.version) == ("toy", "toy", "1.0.0")
    assert (spec.instruction_key, spec.instruction_decoder) == ("language_instruction", "text")
    assert [(camera.key, camera.role, camera.is_probed) for camera in spec.cameras] == [
        ("observation/image_0", "main", True),
        ("observation/image_1", "secondary", True),
        ("observation/hand_image", "wrist", True),
        ("observation/depth_rgb", "secondary", False),
    ]
    assert spec.cameras[0].size_hw == (48, 64)


def test_detect_spec_probes_every_camera_that_is_named():
    features = [text("task"), image("rgba", channels=4), image("depth"), image("ir", channels=1)]
    found = [(camera.key, camera.is_probed) for camera in detect(*features).cameras]
    assert found == [("rgba", True), ("depth", False)]
    spec = detect(*features, image_keys=["depth", "ir"])
    assert [(camera.key, camera.is_probed) for camera in spec.cameras] == [
        ("depth", True),
        ("ir", True),
    ]


def test_detect_spec_looks_beyond_the_observation_for_a_photo():
    spec = detect(text("task"), image("observation/depth"), image("rgb"))
    found = [(camera.key, camera.is_probed) for camera in spec.cameras]
    assert found == [("rgb", True), ("observation/depth", False)]


def test_detect_spec_of_an_instruction_outside_the_steps():
    instruction = outside(text("episode_metadata/language_instruction"))
    path = outside(text("episode_metadata/file_path"))
    spec = detect(image("rgb"), instruction, path)
    assert spec.instruction_key == "episode_metadata/language_instruction"
    assert spec.instruction_decoder == "text"
    spec = detect(image("rgb"), outside(numbers("instruction", 512, dtype="int32")))
    assert (spec.instruction_key, spec.instruction_decoder) == ("instruction", "codes")


@pytest.mark.parametrize("key", [None, "task", "language_instruction"])
def test_detect_spec_prefers_an_instruction_of_the_steps(key):
    inside, episode = text("a/task"), outside(text("b/task"))
    if key == "language_instruction":
        inside, episode = text("language_instruction"), outside(numbers(key, 9, dtype="int32"))
    spec = detect(image("rgb"), inside, episode, instruction_key=key)
    assert (spec.instruction_key, spec.instruction_decoder) == (inside.key, "text")


def test_detect_spec_takes_an_instruction_of_the_episode_that_is_named():
    features = [image("rgb"), text("a/task"), outside(text("b/task"))]
    assert detect(*features, instruction_key="b/task").instruction_key == "b/task"


def test_detect_spec_of_character_codes():
    spec = detect(image("rgb"), numbers("observation/instruction", 512, dtype="int32"))
    assert spec.instruction_key == "observation/instruction"
    assert spec.instruction_decoder == "codes"
    assert [camera.key for camera in spec.cameras] == ["rgb"]


def test_detect_spec_of_a_text_with_a_telling_name():
    assert detect(image("image"), text("task"), text("id")).instruction_key == "task"


def test_detect_spec_with_options():
    features = [
        image("observation/left"),
        image("observation/right"),
        text("language_instruction"),
        text("language_instruction_2"),
    ]
    spec = detect(
        *features,
        image_keys=["steps/observation/right", "left"],
        instruction_key="language_instruction_2",
    )
    assert spec.instruction_key == "language_instruction_2"
    assert [camera.key for camera in spec.cameras] == ["observation/right", "observation/left"]


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (
            [image("a"), text("language_instruction"), text("observation/instruction")],
            {},
            "several texts could.*--instruction-key KEY; candidates: language_instruction, obs",
        ),
        ([image("a"), text("note")], {}, "no obvious instruction.*candidates: note"),
        ([image("a")], {}, "no obvious instruction.*candidates: none"),
        (
            [image("a"), text("note"), outside(text("episode_metadata/words"))],
            {},
            "no obvious instruction.*candidates: episode_metadata/words, note",
        ),
        ([text("instruction"), image("depth")], {}, "no image of 3 or 4.*images there: depth"),
        ([text("instruction")], {}, "no image of 3 or 4 channels.*--image-key KEY.*there: none"),
        (
            [text("instruction"), image("m", channels=1), image("d", dtype="uint16")],
            {},
            "no image of 3 or 4 channels.*images there: m, d",
        ),
        (
            [image("a"), text("instruction")],
            {"image_keys": ["b"]},
            "--image-key 'b' names no images; there is: a",
        ),
        (
            [image("x/a"), image("y/a"), text("instruction")],
            {"image_keys": ["a"]},
            "--image-key 'a' names several images; there is: x/a, y/a",
        ),
        (
            [image("a"), text("instruction")],
            {"instruction_key": "note"},
            "--instruction-key 'note' names no texts; there is: instruction",
        ),
    ],
)
def test_detect_spec_says_which_option_settles_it(features, options, message):
    with pytest.raises(ConfigError, match=message):
        detect(*features, **options)


@pytest.mark.skipif(not RLDS.is_dir(), reason="the development data is not beside the repository")
@pytest.mark.parametrize("name", ["bridge", "bridge_oxe", "fractal"])
def test_the_registry_fits_real_datasets(name):
    spec = find_dataset(name)
    folder = Path(
        resolve_data_dir(
            spec,
            str(RLDS),
            exists=lambda path: Path(path).exists(),
            list_names=lambda path: sorted(entry.name for entry in Path(path).iterdir()),
        )
    )
    info = decode_dataset_info((folder / "dataset_info.json").read_text())
    features = decode_features((folder / "features.json").read_text())
    check_spec(adopt_info(spec, info), features)
    detected = detect_spec(info.name, info.version, features)
    assert detected.instruction_key == spec.instruction_key
    assert [camera.key for camera in detected.cameras] == [camera.key for camera in spec.cameras]
