"""A pybullet client as a stage: loads, poses and pictures bodies, without display or dynamics."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.simulation import shading
from ilv_dataset.simulation.meshes import Mesh, format_obj
from ilv_dataset.simulation.nouns import COLOURS, Rgb
from ilv_dataset.simulation.scenes import Camera, Light, Thing

TABLE_XY_M = ((-0.45, 1.15), (-0.80, 0.80))
FLOOR_Z_M, WALL_X_M = -0.75, -1.8
MIDDLE_XYZ = (0.5, 0.0, 0.05)  # of the workspace
LAMP_M = 4.0  # the lamp's distance; far enough that its rays are nearly parallel
LAMP_FOV_DEG = 20.0  # sees 1.4 m around the middle
WALL_RGB: Rgb = (0.62, 0.61, 0.58)


@dataclass(frozen=True, eq=False)
class Setting:
    """All that a picture shows but its bodies."""

    camera: Camera
    light: Light
    table: np.ndarray  # (T, T, 3) uint8, see `textures.paint_table`
    floor_rgb: Rgb
    table_gain: Rgb = (1.0, 1.0, 1.0)  # by which the table's colours are multiplied
    specular: float = 0.08
    lamp_px: int = 400  # of the lamp's view, from which shadows are


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame and the truth about it."""

    rgb: np.ndarray  # (S, S, 3) uint8
    labels: np.ndarray  # (S, S) uint8: i + 1 where thing i is seen, else 0


def import_pybullet() -> tuple[Any, Path]:
    """pybullet's module and the folder of its models.

    Raises: ConfigError if it is not installed.
    """
    try:
        with _silenced_stderr():
            bullet = importlib.import_module("pybullet")
        models = importlib.import_module("pybullet_data")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "the simulation needs pybullet: pip install 'ilv-dataset[sim]'"
        ) from error
    return bullet, Path(models.getDataPath())


@contextmanager
def _silenced_stderr() -> Iterator[None]:
    """Keeps the build time that pybullet prints from C when it is imported off the terminal."""
    kept = os.dup(2)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


class Stage:
    """A client with its own folder of meshes; what it draws is what was loaded into it.

    What is in front is best loaded first: pixels behind it are then never shaded.

    Raises: ConfigError if pybullet is not installed.
    """

    def __init__(self) -> None:
        self.bullet, self.models = import_pybullet()
        self._folder = tempfile.TemporaryDirectory(prefix="ilv-simulation-")
        self.folder = Path(self._folder.name)
        self.client: int = self.bullet.connect(self.bullet.DIRECT)

    def close(self) -> None:
        """Frees the client and its temporary meshes."""
        self.bullet.disconnect(physicsClientId=self.client)
        self._folder.cleanup()

    def save_mesh(self, name: str, shape: Callable[[], Mesh]) -> Path:
        """The file of a mesh, which is only built where it has no file of that name yet."""
        path = self.folder / f"{name}.obj"
        if not path.exists():
            path.write_text(format_obj(shape()))
        return path

    def load_thing(self, thing: Thing, *, rgb: Rgb | None = None) -> int:
        """Adds a thing in its colour, or in `rgb`; returns its body."""
        own = rgb or COLOURS[thing.colour]
        parts = []
        for number, part in enumerate(thing.kind.parts):
            painted = part.rgb or (own[0] * part.shade, own[1] * part.shade, own[2] * part.shade)
            parts.append((self.save_mesh(f"{thing.noun}-{number}", part.shape), painted))
        return self.load_body(parts, scale=thing.scale)

    def load_body(self, parts: Sequence[tuple[Path, Rgb]], *, scale: float = 1.0) -> int:
        """One body of several meshes: a base, and links that are fixed to it."""
        shapes = [
            self.bullet.createVisualShape(
                self.bullet.GEOM_MESH,
                fileName=str(path),
                meshScale=[scale] * 3,
                rgbaColor=[*rgb, 1.0],
                physicsClientId=self.client,
            )
            for path, rgb in parts
        ]
        links = len(shapes) - 1
        return int(
            self.bullet.createMultiBody(
                0,
                -1,
                shapes[0],
                linkMasses=[0] * links,
                linkCollisionShapeIndices=[-1] * links,
                linkVisualShapeIndices=shapes[1:],
                linkPositions=[[0, 0, 0]] * links,
                linkOrientations=[[0, 0, 0, 1]] * links,
                linkInertialFramePositions=[[0, 0, 0]] * links,
                linkInertialFrameOrientations=[[0, 0, 0, 1]] * links,
                linkParentIndices=[0] * links,
                linkJointTypes=[self.bullet.JOINT_FIXED] * links,
                linkJointAxis=[[0, 0, 1]] * links,
                physicsClientId=self.client,
            )
        )

    def remove(self, body: int) -> None:
        """Takes a body off the stage."""
        self.bullet.removeBody(body, physicsClientId=self.client)

    def place(
        self, body: int, xyz: Sequence[float], *, rpy: tuple[float, float, float] = (0.0, 0.0, 0.0)
    ) -> None:
        """Puts a body's origin at `xyz` metres, turned by roll, pitch and yaw in radians."""
        self.bullet.resetBasePositionAndOrientation(
            body,
            [float(value) for value in xyz],
            self.bullet.getQuaternionFromEuler(rpy),
            physicsClientId=self.client,
        )

    def _rasterise(self, setting: Setting, camera: Camera, size_px: int) -> shading.Buffers:
        """What a camera sees of the bodies, without shadows."""
        light = setting.light
        _, _, rgba, depth, body_ids = self.bullet.getCameraImage(
            size_px,
            size_px,
            shading.view_matrix(camera).T.reshape(-1).tolist(),
            shading.projection_matrix(camera.fov_deg).T.reshape(-1).tolist(),
            lightDirection=light.towards_xyz,
            lightColor=light.rgb,
            lightDistance=LAMP_M,
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=setting.specular,
            shadow=0,
            renderer=self.bullet.ER_TINY_RENDERER,
            physicsClientId=self.client,
        )
        return shading.Buffers(
            np.asarray(rgba, np.uint8).reshape(size_px, size_px, 4)[..., :3],
            np.asarray(depth, np.float32).reshape(size_px, size_px),
            np.asarray(body_ids, np.int32).reshape(size_px, size_px),
        )

    def take_picture(
        self, setting: Setting, things: Sequence[int], *, size_px: int, supersample: int
    ) -> Picture:
        """What the camera sees: the bodies, the room behind them and their soft shadows.

        Table, floor and wall are planes of which each pixel is worked out: to rasterise them
        takes most of the time of a picture.

        Args:
            things: the bodies whose labels are 1, 2, 3 …
            supersample: a frame is rasterised this many times larger and shrunk; 2 smooths the
                edges, 1 takes less than half the time.
        """
        camera, lamp = setting.camera, _lamp_camera(setting.light)
        seen = self._rasterise(setting, camera, size_px * supersample)
        lit = self._rasterise(setting, lamp, setting.lamp_px)
        rays = shading.pixel_rays(camera, size_px * supersample)
        room_rgb, room_m, is_table = _paint_room(setting, rays)
        body_m = shading.depth_to_metres(seen.depth)
        is_room = (room_m < body_m) | (seen.body_ids < 0)
        rgb, is_body = room_rgb, ~is_room
        rgb[is_body] = seen.rgb[is_body]
        points = shading.locate_pixels(np.where(is_room, room_m, body_m), rays, camera)
        bias_m = np.where(is_room & is_table, shading.TABLE_BIAS_M, shading.THING_BIAS_M)
        dark = shading.shade_share(points, bias_m, lit.depth, lamp)
        rgb *= 1 - np.float32(setting.light.shadow) * dark[..., None]
        label_of = np.zeros(max([*things, int(seen.body_ids.max())]) + 2, np.uint8)
        for label, body in enumerate(things, 1):
            label_of[body + 1] = label
        labels = np.where(is_room, np.uint8(0), label_of[seen.body_ids + 1])
        return Picture(
            shading.shrink_image(rgb, supersample), shading.shrink_labels(labels, supersample)
        )


def _paint_room(setting: Setting, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Table, floor and wall alone.

    Returns: (S, S, 3) float32 RGB 0..255; (S, S) float32 metres along the optical axis; (S, S)
        bool, True on the table.
    """
    camera = setting.camera
    up_m, floor_m = (shading.plane_metres(rays, camera, 2, z) for z in (0.0, FLOOR_Z_M))
    wall_m = shading.plane_metres(rays, camera, 0, WALL_X_M)
    points = shading.locate_pixels(up_m, rays, camera)
    (west, east), (south, north) = TABLE_XY_M
    x, y, _ = points
    is_table = (x > west) & (x < east) & (y > south) & (y < north) & (up_m < shading.FAR_M)
    from_above = shading.plane_light(setting.light, (0.0, 0.0, 1.0), setting.specular)
    from_front = shading.plane_light(setting.light, (1.0, 0.0, 0.0), setting.specular)
    gain = from_above * np.array(setting.table_gain, np.float32)
    rgb = shading.sample_texture(setting.table, points, TABLE_XY_M) * gain
    rgb[~is_table & (floor_m < wall_m)] = 255 * from_above * np.array(setting.floor_rgb)
    rgb[~is_table & (floor_m >= wall_m)] = 255 * from_front * np.array(WALL_RGB)
    metres = np.where(is_table, up_m, np.minimum(floor_m, wall_m))
    return np.minimum(rgb, np.float32(255), out=rgb), metres, is_table


def _lamp_camera(light: Light) -> Camera:
    """The lamp as a camera that looks at the middle of the workspace."""
    x, y, z = (
        middle + LAMP_M * towards
        for middle, towards in zip(MIDDLE_XYZ, light.towards_xyz, strict=True)
    )
    return Camera((x, y, z), MIDDLE_XYZ, LAMP_FOV_DEG)
