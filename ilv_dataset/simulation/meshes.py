"""Procedural triangle meshes, turned, bent or cut from cuboids, and their OBJ text.

Metres, z up; a mesh stands on z = 0 where its recipe says so. Nothing here knows the renderer.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

# 28 sides look round at 60 px; more only cost time in the software rasteriser.
SIDES = 28
ROUND_SIDES, DOT_SIDES = 24, 8  # of an ellipsoid, and of one of a few pixels
# Neighbouring faces of a profile that bend by less than about 45 degrees share a normal.
SMOOTH_COS = 0.7


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles with a normal a vertex; parallel arrays over V vertices and F faces."""

    vertices: np.ndarray  # (V, 3) float64 metres
    normals: np.ndarray  # (V, 3) float64, unit length
    faces: np.ndarray  # (F, 3) int64 into vertices, counter-clockwise seen from outside

    def __post_init__(self) -> None:
        if self.vertices.shape != self.normals.shape or self.vertices.shape[1:] != (3,):
            raise ValueError(f"vertices {self.vertices.shape}, normals {self.normals.shape}")
        if self.faces.shape[1:] != (3,):
            raise ValueError(f"faces must be (F, 3), got {self.faces.shape}")


def merge_meshes(meshes: Sequence[Mesh]) -> Mesh:
    """One mesh that holds all of them."""
    starts = np.cumsum([0] + [len(mesh.vertices) for mesh in meshes[:-1]])
    return Mesh(
        np.concatenate([mesh.vertices for mesh in meshes]),
        np.concatenate([mesh.normals for mesh in meshes]),
        np.concatenate([mesh.faces + start for mesh, start in zip(meshes, starts, strict=True)]),
    )


def move_mesh(mesh: Mesh, at_xyz: Sequence[float], *, yaw: float = 0.0) -> Mesh:
    """The mesh turned about z by `yaw` radians, then moved by `at_xyz` metres."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    turn = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
    return Mesh(mesh.vertices @ turn.T + np.asarray(at_xyz), mesh.normals @ turn.T, mesh.faces)


def cuboid(size_xyz: Sequence[float], at_xyz: Sequence[float] = (0.0, 0.0, 0.0)) -> Mesh:
    """A cuboid whose bottom face is centred on `at_xyz`."""
    signs = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
    vertices, normals = [], []
    for axis in range(3):
        for side in (-1.0, 1.0):
            corners = np.zeros((4, 3))
            corners[:, axis] = side
            # The order of the two other axes turns the face outwards.
            others = [(axis + 1) % 3, (axis + 2) % 3]
            corners[:, others] = signs if side > 0 else signs[::-1]
            vertices.append(corners)
            normals.append(np.tile(np.eye(3)[axis] * side, (4, 1)))
    half = np.asarray(size_xyz) / 2
    faces = [[[k, k + 1, k + 2], [k, k + 2, k + 3]] for k in range(0, 24, 4)]
    centre = np.add(at_xyz, (0.0, 0.0, half[2]))
    return Mesh(
        np.concatenate(vertices) * half + centre,
        np.concatenate(normals),
        np.array(faces, np.int64).reshape(-1, 3),
    )


def open_box(size_xyz: Sequence[float], *, wall: float, floor: float) -> Mesh:
    """A cuboid without a lid that stands on z = 0; `wall` and `floor` are thicknesses."""
    x, y, z = size_xyz
    rise = z - floor
    return merge_meshes(
        [
            cuboid((x, y, floor)),
            cuboid((x, wall, rise), (0.0, (y - wall) / 2, floor)),
            cuboid((x, wall, rise), (0.0, (wall - y) / 2, floor)),
            cuboid((wall, y - 2 * wall, rise), ((x - wall) / 2, 0.0, floor)),
            cuboid((wall, y - 2 * wall, rise), ((wall - x) / 2, 0.0, floor)),
        ]
    )


def lathe(profile_rz: Sequence[tuple[float, float]], *, sides: int = SIDES) -> Mesh:
    """A profile of (radius, z) turned about z; outside to the right of its direction.

    A profile that goes outwards along the bottom, up the wall and back to the axis is closed.
    """
    profile = np.asarray(profile_rz, np.float64)
    along = np.diff(profile, axis=0)
    flat = np.stack([along[:, 1], -along[:, 0]], 1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    angles = np.linspace(0.0, 2 * np.pi, sides + 1)
    bands = []
    for k, normal in enumerate(flat):
        low = _blend(normal, flat[k - 1]) if k > 0 else normal
        high = _blend(normal, flat[k + 1]) if k + 1 < len(flat) else normal
        bands.append(_band(profile[k : k + 2], np.stack([low, high]), angles))
    return merge_meshes(bands)


def ellipsoid(
    radii_xyz: Sequence[float], at_xyz: Sequence[float], *, sides: int = ROUND_SIDES
) -> Mesh:
    """An ellipsoid centred on `at_xyz`."""
    tilt = np.linspace(-np.pi / 2, np.pi / 2, sides // 2 + 1)
    unit = lathe(np.stack([np.cos(tilt), np.sin(tilt)], 1).tolist(), sides=sides)
    radii = np.asarray(radii_xyz, np.float64)
    normals = unit.vertices / radii
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return Mesh(unit.vertices * radii + np.asarray(at_xyz), normals, unit.faces)


def prism(outline_xy: Sequence[Sequence[float]], low_z: float, high_z: float) -> Mesh:
    """An upright prism over an outline, counter-clockwise; all of it is seen from its mean."""
    outline = np.asarray(outline_xy, np.float64)
    closed = np.concatenate([outline, outline[:1]])
    walls = []
    for (ax, ay), (bx, by) in itertools.pairwise(closed):
        corners = [(ax, ay, low_z), (bx, by, low_z), (bx, by, high_z), (ax, ay, high_z)]
        out = _unit(np.array([[by - ay, ax - bx, 0.0]]))
        faces = np.array([[0, 1, 2], [0, 2, 3]])
        walls.append(Mesh(np.array(corners), np.repeat(out, 4, axis=0), faces))
    caps = []
    for z, up in ((low_z, -1.0), (high_z, 1.0)):
        ring = np.column_stack([closed, np.full(len(closed), z)])
        middle = np.array([*outline.mean(axis=0), z])
        caps.append(_cap(ring, np.array([0.0, 0.0, up]), middle))
    return merge_meshes([*walls, *caps])


def sheet(
    x_m: np.ndarray, y_m: np.ndarray, height: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> Mesh:
    """The upper side of what is `height(x, y)` high over a grid of X by Y places."""
    x, y = np.meshgrid(x_m, y_m, indexing="ij")
    z = height(x, y)
    along, across = (np.gradient(z, values, axis=k) for k, values in enumerate((x_m, y_m)))
    normals = _unit(np.stack([-along, -across, np.ones_like(z)], -1).reshape(-1, 3))
    vertices = np.stack([x, y, z], -1).reshape(-1, 3)
    return Mesh(vertices, normals, _grid_faces(len(x_m), len(y_m))[:, ::-1])


def tube(path_xyz: Sequence[Sequence[float]], radii: Sequence[float], *, sides: int = 14) -> Mesh:
    """A round rod along a path, one radius a point; the ends are closed with flat caps."""
    path, size = np.asarray(path_xyz, np.float64), np.asarray(radii, np.float64)
    ahead = np.gradient(path, axis=0)
    ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
    rings = [_ring(direction, sides) for direction in ahead]
    normals = np.stack(rings)
    vertices = path[:, None] + normals * size[:, None, None]
    body = Mesh(vertices.reshape(-1, 3), normals.reshape(-1, 3), _grid_faces(len(path), sides + 1))
    return merge_meshes(
        [body, _cap(vertices[0], -ahead[0], path[0]), _cap(vertices[-1], ahead[-1], path[-1])]
    )


def format_obj(mesh: Mesh) -> str:
    """The mesh as Wavefront OBJ text, with normals; six decimals, so the text is stable."""
    lines = [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.vertices + 0.0]
    lines += [f"vn {x:.6f} {y:.6f} {z:.6f}" for x, y, z in mesh.normals + 0.0]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in mesh.faces + 1]
    return "\n".join(lines) + "\n"


def parse_obj(text: str) -> Mesh:
    """The triangles of a Wavefront OBJ text; polygons are cut into fans, textures left out.

    Normals are those of the text, or of the faces where it has none.

    Raises: ValueError where the text has no faces.
    """
    places: list[list[float]] = []
    turns: list[list[float]] = []
    corners: list[tuple[int, int]] = []
    for line in text.splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            places.append([float(word) for word in words[:3]])
        elif kind == "vn":
            turns.append([float(word) for word in words[:3]])
        elif kind == "f":
            fan = [_corner(word) for word in words]
            for k in range(1, len(fan) - 1):
                corners += [fan[0], fan[k], fan[k + 1]]
    if not corners:
        raise ValueError("OBJ text has no faces")
    index = np.array(corners, np.int64)
    vertices = np.array(places)[index[:, 0] - 1]
    faces = np.arange(len(index)).reshape(-1, 3)
    if turns and (index[:, 1] > 0).all():
        return Mesh(vertices, np.array(turns)[index[:, 1] - 1], faces)
    a, b, c = vertices[0::3], vertices[1::3], vertices[2::3]
    return Mesh(vertices, np.repeat(_unit(np.cross(b - a, c - a)), 3, axis=0), faces)


def coarsen_mesh(mesh: Mesh, cell_m: float) -> Mesh:
    """The mesh with all vertices of a cubic cell as one, at their mean; edges stay sharp.

    Faces that collapse go. Source: vertex clustering, Rossignac and Borrel 1993.
    """
    cells = np.floor(mesh.vertices / cell_m).astype(np.int64)
    _, cell_of = np.unique(cells, axis=0, return_inverse=True)
    cell_of = cell_of.reshape(-1)
    # Vertices of a cell that look in different directions share a place, not a normal.
    axis = np.abs(mesh.normals).argmax(axis=1)
    facing = axis * 2 + (np.take_along_axis(mesh.normals, axis[:, None], 1)[:, 0] > 0)
    kinds, first, kind_of = np.unique(cell_of * 6 + facing, return_index=True, return_inverse=True)
    places = _mean_of(mesh.vertices, cell_of, int(cell_of.max()) + 1)[cell_of[first]]
    normals = _unit(_mean_of(mesh.normals, kind_of.reshape(-1), len(kinds)))
    faces = kind_of.reshape(-1)[mesh.faces]
    a, b, c = cell_of[mesh.faces].T
    kept = np.unique(faces[(a != b) & (b != c) & (c != a)], axis=0)
    return Mesh(places, normals, kept)


def _corner(word: str) -> tuple[int, int]:
    """Numbers of the vertex and its normal, 0 for none, of an OBJ corner such as `3/1/2`."""
    numbers = word.split("/")
    return int(numbers[0]), int(numbers[2]) if len(numbers) > 2 else 0


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12))


def _mean_of(values: np.ndarray, group_of: np.ndarray, num_groups: int) -> np.ndarray:
    """Mean of the rows of each group, (num_groups, 3)."""
    sums = np.stack([np.bincount(group_of, column, num_groups) for column in values.T], 1)
    return np.asarray(sums / np.bincount(group_of, minlength=num_groups)[:, None])


def _blend(normal: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The mean of two unit normals where the edge is smooth, else the first."""
    if float(normal @ other) < SMOOTH_COS:
        return normal
    mean = normal + other
    return np.asarray(mean / np.linalg.norm(mean))


def _band(ends_rz: np.ndarray, normals_rz: np.ndarray, angles: np.ndarray) -> Mesh:
    """One segment of a profile turned about z; both arrays are (2, 2): low and high end."""
    around = np.stack([np.cos(angles), np.sin(angles)], 1)

    def turn(rz: np.ndarray) -> np.ndarray:
        flat = [np.concatenate([around * r, np.full((len(angles), 1), z)], 1) for r, z in rz]
        return np.concatenate(flat)

    return Mesh(turn(ends_rz), turn(normals_rz), _grid_faces(2, len(angles)))


def _grid_faces(rows: int, columns: int) -> np.ndarray:
    """Triangles over a grid of vertices, (2 * (rows - 1) * (columns - 1), 3)."""
    start = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    near, far = start + 1, start + columns
    return np.concatenate([np.stack([start, near, far + 1], 1), np.stack([start, far + 1, far], 1)])


def _ring(direction: np.ndarray, sides: int) -> np.ndarray:
    """A closed circle of unit vectors across `direction`, (sides + 1, 3)."""
    helper = np.array([0.0, 0.0, 1.0]) if abs(direction[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    right = np.cross(direction, helper)
    right /= np.linalg.norm(right)
    up = np.cross(direction, right)
    angles = np.linspace(0.0, 2 * np.pi, sides + 1)
    return np.asarray(np.cos(angles)[:, None] * right + np.sin(angles)[:, None] * up)


def _cap(ring: np.ndarray, normal: np.ndarray, centre: np.ndarray) -> Mesh:
    vertices = np.concatenate([ring, centre[None]])
    last = len(ring)
    index = np.arange(last - 1)
    faces = np.stack([index, index + 1, np.full(last - 1, last)], 1)
    first = np.cross(vertices[1] - vertices[0], vertices[last] - vertices[0])
    if float(first @ normal) < 0:
        faces = faces[:, ::-1]
    return Mesh(vertices, np.tile(normal, (len(vertices), 1)), faces)
