"""The pictures of one scene, step by step."""

from __future__ import annotations

from types import TracebackType

from ilv_dataset.simulation.arms import Arm
from ilv_dataset.simulation.motion import Arrangement
from ilv_dataset.simulation.scenes import Scene
from ilv_dataset.simulation.stage import Picture, Setting, Stage
from ilv_dataset.simulation.textures import paint_tile

FRAME_PX = 256


class World:
    """One scene loaded onto a stage of its own; a context manager.

    Args:
        supersample: see `Stage.take_picture`.

    Raises: ConfigError if pybullet is not installed.
    """

    def __init__(self, scene: Scene, *, supersample: int = 2) -> None:
        self._stage, self._supersample = Stage(), supersample
        look = scene.look
        table = paint_tile(look.table_kind, look.table_seed)
        self._setting = Setting(look.camera, look.light, table, look.floor_rgb)
        self._arm = Arm(self._stage, look.arm_rgb)
        self._bodies = [self._stage.load_thing(thing) for thing in scene.things]

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
        self._stage.close()

    def arrange(self, now: Arrangement) -> None:
        """Poses every thing and the arm."""
        for body, (x, y, z, yaw) in zip(self._bodies, now.poses, strict=True):
            self._stage.place(body, (x, y, z), rpy=(0.0, 0.0, float(yaw)))
        self._arm.pose(now.gripper_pose, now.finger_gap_m)

    def picture(self) -> Picture:
        """What the scene's camera sees now, FRAME_PX x FRAME_PX."""
        return self._stage.take_picture(
            self._setting, self._bodies, size_px=FRAME_PX, supersample=self._supersample
        )
