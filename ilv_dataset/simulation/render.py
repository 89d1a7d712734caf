"""A scene in pybullet: loads it, poses it and takes pictures of it, without display or dynamics."""

from __future__ import annotations

import importlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ilv_dataset.errors import ConfigError
from ilv_dataset.simulation import shading
from ilv_dataset.simulation.arms import Arm
from ilv_dataset.simulation.meshes import Mesh, cuboid, format_obj
from ilv_dataset.simulation.motion import Arrangement
from ilv_dataset.simulation.nouns import COLOURS, Rgb
from ilv_dataset.simulation.scenes import Camera, Light, Scene, Thing
from ilv_dataset.simulation.textures import paint_table

FRAME_PX = 256
TABLE_XY_M = ((-0.45, 1.15), (-0.80, 0.80))
TABLE_THICK_M = 0.04
FLOOR_Z_M, WALL_X_M = -0.75, -1.8
MIDDLE_XYZ = (0.5, 0.0, 0.05)  # of the workspace
LAMP_M = 4.0  # the lamp's distance; far enough that its rays are nearly parallel
LAMP_FOV_DEG = 20.0  # sees 1.4 m around the middle
LAMP_PX = 400
WHITE: Rgb = (1.0, 1.0, 1.0)
WALL_RGB: Rgb = (0.62, 0.61, 0.58)


@dataclass(frozen=True, eq=False)
class Picture:
    """One frame and the truth about it."""

    rgb: np.ndarray  # (FRAME_PX, FRAME_PX, 3) uint8
    labels: np.ndarray  # (FRAME_PX, FRAME_PX) uint8: i + 1 where thing i is seen, else 0


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


class World:
    """One scene loaded into a pybullet client of its own; a context manager.

    Args:
        supersample: a frame is rasterised this many times larger and shrunk; 2 smooths the
            edges, 1 takes less than half the time.

    Raises: ConfigError if pybullet is not installed.
    """

    def __init__(self, scene: Scene, *, supersample: int = 2) -> None:
        self._bullet, models = import_pybullet()
        self._look, self._supersample = scene.look, supersample
        self._folder = tempfile.TemporaryDirectory(prefix="ilv-simulation-")
        self._client: int = self._bullet.connect(self._bullet.DIRECT)
        self._texture = paint_table(scene.look.table_kind, scene.look.table_seed)
        # What is in front is loaded first: pixels behind it are then never shaded.
        urdf = models / "franka_panda" / "panda.urdf"
        self._arm = Arm(self._bullet, self._client, urdf, scene.look.arm_rgb)
        self._bodies = [self._load_thing(thing) for thing in scene.things]
        self._table = self._load_furniture()

    def __enter__(self) -> World:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Frees the client and its temporary meshes."""
        self._bullet.disconnect(physicsClientId=self._client)
        self._folder.cleanup()

    def arrange(self, now: Arrangement) -> None:
        """Poses every thing and the arm."""
        for body, (x, y, z, yaw) in zip(self._bodies, now.poses, strict=True):
            turn = self._bullet.getQuaternionFromEuler((0.0, 0.0, float(yaw)))
            place = (float(x), float(y), float(z))
            self._bullet.resetBasePositionAndOrientation(
                body, place, turn, physicsClientId=self._client
            )
        self._arm.pose(now.gripper_pose, now.finger_gap_m)

    def picture(self) -> Picture:
        """What the scene's camera sees now."""
        look, factor = self._look, self._supersample
        lamp = _lamp_camera(look.light)
        seen = self._rasterise(look.camera, FRAME_PX * factor)
        lit = self._rasterise(lamp, LAMP_PX)
        points = shading.locate_pixels(seen.depth, look.camera)
        rgb = seen.rgb.astype(np.float32)
        cloth = shading.sample_texture(self._texture, points, TABLE_XY_M)
        on_top = (seen.body_ids == self._table) & (points[..., 2] > -TABLE_THICK_M / 4)
        rgb = np.where(on_top[..., None], rgb * cloth, rgb)
        bias_m = np.where(on_top, shading.TABLE_BIAS_M, shading.THING_BIAS_M)
        dark = shading.shade_share(points, bias_m, lit.depth, lamp) * look.light.shadow
        labels = np.zeros(seen.body_ids.shape, np.uint8)
        for index, body in enumerate(self._bodies):
            labels[seen.body_ids == body] = index + 1
        return Picture(
            shading.shrink_image(rgb * (1 - dark[..., None]), factor),
            shading.shrink_labels(labels, factor),
        )

    def _rasterise(self, camera: Camera, size: int) -> shading.Buffers:
        light = self._look.light
        _, _, rgba, depth, body_ids = self._bullet.getCameraImage(
            size,
            size,
            shading.view_matrix(camera).T.reshape(-1).tolist(),
            shading.projection_matrix(camera.fov_deg).T.reshape(-1).tolist(),
            lightDirection=light.towards_xyz,
            lightColor=light.rgb,
            lightDistance=LAMP_M,
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=0.08,
            shadow=0,
            renderer=self._bullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        return shading.Buffers(
            np.asarray(rgba, np.uint8).reshape(size, size, 4)[..., :3],
            np.asarray(depth, np.float32).reshape(size, size),
            np.asarray(body_ids, np.int32).reshape(size, size),
        )

    def _load_furniture(self) -> int:
        """Adds table, floor and wall; returns the table, white, for its texture comes later."""
        (west, east), (south, north) = TABLE_XY_M
        middle = ((west + east) / 2, (south + north) / 2, -TABLE_THICK_M)
        top = cuboid((east - west, north - south, TABLE_THICK_M), middle)
        table = self._load_body([(self._save_mesh("table", top), WHITE)])
        floor = cuboid((8.0, 8.0, 0.02), (0.0, 0.0, FLOOR_Z_M - 0.02))
        self._load_body([(self._save_mesh("floor", floor), self._look.floor_rgb)])
        wall = cuboid((0.02, 8.0, 4.0), (WALL_X_M, 0.0, FLOOR_Z_M))
        self._load_body([(self._save_mesh("wall", wall), WALL_RGB)])
        return table

    def _load_thing(self, thing: Thing) -> int:
        parts = []
        for number, part in enumerate(thing.kind.parts):
            own = COLOURS[thing.colour]
            rgb = part.rgb or (own[0] * part.shade, own[1] * part.shade, own[2] * part.shade)
            parts.append((self._save_mesh(f"{thing.noun}-{number}", part.shape()), rgb))
        return self._load_body(parts, scale=thing.scale)

    def _save_mesh(self, name: str, mesh: Mesh) -> Path:
        path = Path(self._folder.name) / f"{name}.obj"
        if not path.exists():
            path.write_text(format_obj(mesh))
        return path

    def _load_body(self, parts: Sequence[tuple[Path, Rgb]], *, scale: float = 1.0) -> int:
        """One body of several meshes: a base, and links that are fixed to it."""
        shapes = [
            self._bullet.createVisualShape(
                self._bullet.GEOM_MESH,
                fileName=str(path),
                meshScale=[scale] * 3,
                rgbaColor=[*rgb, 1.0],
                physicsClientId=self._client,
            )
            for path, rgb in parts
        ]
        links = len(shapes) - 1
        return int(
            self._bullet.createMultiBody(
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
                linkJointTypes=[self._bullet.JOINT_FIXED] * links,
                linkJointAxis=[[0, 0, 1]] * links,
                physicsClientId=self._client,
            )
        )


def _lamp_camera(light: Light) -> Camera:
    """The lamp as a camera that looks at the middle of the workspace."""
    x, y, z = (
        middle + LAMP_M * towards
        for middle, towards in zip(MIDDLE_XYZ, light.towards_xyz, strict=True)
    )
    return Camera((x, y, z), MIDDLE_XYZ, LAMP_FOV_DEG)
