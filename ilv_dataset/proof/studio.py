"""Pictures of many scenes from one stage: the arm is loaded once, things come and go."""

from __future__ import annotations

from functools import cache

from ilv_dataset.simulation.arms import Arm
from ilv_dataset.simulation.motion import Arrangement
from ilv_dataset.simulation.scenes import Scene
from ilv_dataset.simulation.stage import Picture, Setting, Stage
from ilv_dataset.simulation.textures import paint_tile

LAMP_PX = 200
NUM_TILES = 12

_paint_tile = cache(paint_tile)


class Studio:
    """A stage with an arm that takes pictures of any scene.

    Raises: ConfigError if pybullet is not installed.
    """

    def __init__(self, *, frame_px: int) -> None:
        self._stage, self._frame_px = Stage(), frame_px
        self._arm = Arm(self._stage, (0.88, 0.88, 0.88), is_coarse=True)
        self._scene: Scene | None = None
        self._bodies: list[int] = []

    def take(self, scene: Scene, now: Arrangement) -> Picture:
        """What the scene's camera sees at an arrangement; the same scene again is quicker."""
        if scene is not self._scene:
            self._load(scene)
        for body, (x, y, z, yaw) in zip(self._bodies, now.poses, strict=True):
            self._stage.place(body, (x, y, z), rpy=(0.0, 0.0, float(yaw)))
        self._arm.pose(now.gripper_pose, now.finger_gap_m)
        return self._stage.take_picture(
            self._setting, self._bodies, size_px=self._frame_px, supersample=1
        )

    def _load(self, scene: Scene) -> None:
        # The last first: the stage then draws the rest in the order that it had.
        for body in reversed(self._bodies):
            self._stage.remove(body)
        look = scene.look
        self._arm.paint(look.arm_rgb)
        table = _paint_tile(look.table_kind, look.table_seed % NUM_TILES)
        self._setting = Setting(look.camera, look.light, table, look.floor_rgb, lamp_px=LAMP_PX)
        self._bodies = [self._stage.load_thing(thing) for thing in scene.things]
        self._scene = scene
