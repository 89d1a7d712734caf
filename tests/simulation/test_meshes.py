import numpy as np
import pytest

from ilv_dataset.simulation.meshes import (
    Mesh,
    coarsen_mesh,
    cuboid,
    ellipsoid,
    format_obj,
    lathe,
    merge_meshes,
    move_mesh,
    open_box,
    parse_obj,
    prism,
    sheet,
    tube,
)


def enclosed_volume(mesh: Mesh) -> float:
    """Positive where the faces look outwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return float((np.cross(a, b) * c).sum() / 6)


def test_cuboid_stands_on_its_place():
    mesh = cuboid((1.0, 2.0, 3.0), (10.0, 0.0, 5.0))
    assert mesh.vertices.min(0).tolist() == [9.5, -1.0, 5.0]
    assert mesh.vertices.max(0).tolist() == [10.5, 1.0, 8.0]
    assert mesh.faces.shape == (12, 3)


def test_faces_look_outwards():
    assert enclosed_volume(cuboid((1, 2, 3))) == pytest.approx(6.0)
    # Of a cylinder with 28 sides: 28 / 2 * sin(2 pi / 28) = 3.115 instead of pi.
    assert enclosed_volume(lathe([(0, 0), (1, 0), (1, 1), (0, 1)])) == pytest.approx(
        3.115, abs=1e-3
    )
    assert enclosed_volume(ellipsoid((1, 1, 1), (0, 0, 0))) == pytest.approx(4.19, abs=0.2)
    assert enclosed_volume(tube([(0, 0, 0), (2, 0, 0)], [1, 1])) == pytest.approx(6.28, abs=0.3)
    # An L of three unit squares, 2 high.
    outline = [(0, 0), (2, 0), (2, 1), (1, 1), (1, 2), (0, 2)]
    assert enclosed_volume(prism(outline, 1.0, 3.0)) == pytest.approx(6.0)
    # 3 x 2 x 1 less the hollow of 2.8 x 1.8 x 0.9.
    assert enclosed_volume(open_box((3, 2, 1), wall=0.1, floor=0.1)) == pytest.approx(1.464)


def test_lathe_keeps_a_sharp_edge_and_smooths_a_blunt_one():
    sharp = lathe([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0)])
    assert set(np.round(sharp.normals[:, 2], 6)) == {-1.0, 0.0}
    blunt = lathe([(1.0, 0.0), (1.0, 1.0), (0.9, 2.0)])
    assert 0.0 < np.sort(np.unique(np.round(blunt.normals[:, 2], 6)))[1] < 0.0995


def test_move_mesh_turns_before_it_moves():
    mesh = Mesh(np.array([[1.0, 0, 0]]), np.array([[1.0, 0, 0]]), np.zeros((0, 3), np.int64))
    moved = move_mesh(mesh, (0.0, 0.0, 2.0), yaw=np.pi / 2)
    assert np.round(moved.vertices, 6).tolist() == [[0.0, 1.0, 2.0]]
    assert np.round(moved.normals, 6).tolist() == [[0.0, 1.0, 0.0]]


def test_merge_meshes_counts_on():
    one = Mesh(np.zeros((3, 3)), np.eye(3), np.array([[0, 1, 2]]))
    assert merge_meshes([one, one]).faces.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_format_obj_of_one_triangle():
    mesh = Mesh(np.eye(3), np.tile([0.0, 0.0, 1.0], (3, 1)), np.array([[0, 1, 2]]))
    assert format_obj(mesh).splitlines() == [
        "v 1.000000 0.000000 0.000000",
        "v 0.000000 1.000000 0.000000",
        "v 0.000000 0.000000 1.000000",
        "vn 0.000000 0.000000 1.000000",
        "vn 0.000000 0.000000 1.000000",
        "vn 0.000000 0.000000 1.000000",
        "f 1//1 2//2 3//3",
    ]


def test_mesh_of_unequal_arrays_raises():
    with pytest.raises(ValueError, match="vertices"):
        Mesh(np.zeros((2, 3)), np.zeros((3, 3)), np.zeros((0, 3)))


def test_sheet_looks_up_from_its_height():
    mesh = sheet(np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.0]), lambda x, y: x)
    assert sorted(map(tuple, mesh.vertices.tolist()))[-1] == (2.0, 1.0, 2.0)
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    assert (np.cross(b - a, c - a)[:, 2] > 0).all()
    # A slope of 45 degrees against x.
    assert mesh.normals[0].round(4).tolist() == [-0.7071, 0.0, 0.7071]


def test_parse_obj_reads_what_format_obj_wrote():
    mesh = cuboid((1.0, 2.0, 3.0))
    again = parse_obj(format_obj(mesh))
    assert again.faces.shape == (12, 3)
    assert again.vertices[again.faces].tolist() == mesh.vertices[mesh.faces].tolist()
    assert again.normals[again.faces].tolist() == mesh.normals[mesh.faces].tolist()


def test_parse_obj_cuts_polygons_and_finds_normals():
    square = parse_obj("# one\no square\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n")
    assert square.faces.shape == (2, 3)
    assert square.normals.tolist() == [[0.0, 0.0, 1.0]] * 6
    with pytest.raises(ValueError, match="no faces"):
        parse_obj("v 0 0 0\n")


def test_coarsen_mesh_keeps_shape_with_fewer_faces():
    fine = ellipsoid((1.0, 1.0, 1.0), (0.05, 0.05, 0.05), sides=96)
    coarse = coarsen_mesh(fine, 0.25)
    assert len(coarse.faces) < len(fine.faces) / 4
    assert enclosed_volume(coarse) == pytest.approx(4.19, abs=0.4)
    assert np.linalg.norm(coarse.normals, axis=1) == pytest.approx(1.0)


def test_coarsen_mesh_keeps_edges_sharp():
    box = coarsen_mesh(cuboid((1.0, 1.0, 1.0), (0.05, 0.05, 0.05)), 0.1)
    assert box.faces.shape == (12, 3)
    assert set(np.abs(box.normals).max(axis=1)) == {1.0}
    assert enclosed_volume(box) == pytest.approx(1.0)
