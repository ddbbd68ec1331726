"""Off-screen rendering of MuJoCo models, and the choice of the OpenGL library."""

from __future__ import annotations

import glob
import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.errors import ConfigurationError, MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_SYSTEM_PACKAGES = {"egl": "libegl1 libgl1", "osmesa": "libosmesa6 libgl1", "glfw": "libglfw3"}


class OffscreenRenderer:
    """Renderer of the cameras of a MuJoCo model.

    Args:
        model: the `mujoco.MjModel`.
        size: height and width of the images, in pixels.
        shadows: cast shadows.
        multisampling: antialias edges with the number of samples that the model sets (4).
        reflections: mirror the scene in shiny surfaces.
        geom_groups: MuJoCo geom groups to show; robosuite hides group 0, the collision geometry.

    Raises:
        MissingPackageError: the OpenGL library named by MUJOCO_GL is not installed.
        ConfigurationError: MUJOCO_GL does not name a library for off-screen rendering.
    """

    def __init__(
        self,
        model: Any,
        size: int,
        shadows: bool = True,
        multisampling: bool = True,
        reflections: bool = True,
        geom_groups: Sequence[int] = (1, 2),
    ) -> None:
        import mujoco

        self._mujoco = mujoco
        self._model = model
        self._gl, self._context = _contexts(model, size, multisampling)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = reflections
        self._option = mujoco.MjvOption()
        self._option.geomgroup[:] = [group in geom_groups for group in range(len(self._option.geomgroup))]
        self._perturbation = mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._viewport = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), dtype=np.uint8)
        # Reversed depth buffer: it keeps precision at large distances.
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._depths = np.empty((size, size), dtype=np.float32)

    def render(self, data: Any, camera: str | int) -> NDArray[np.uint8]:
        """Render the image of one camera, (H, W, 3) uint8, first row at the top.

        Args:
            data: a `mujoco.MjData` of the model, with positions up to date.
            camera: the camera's name or number.

        Raises:
            ConfigurationError: the model has no such camera.
        """
        self._draw(data, camera)
        self._mujoco.mjr_readPixels(self._pixels, None, self._viewport, self._context)
        # OpenGL stores the bottom row first.
        return self._pixels[::-1].copy()

    def depth(self, data: Any, camera: str | int) -> NDArray[np.float64]:
        """Render the depth of one camera, (H, W), in metres along its optical axis, first row at the top.

        Args:
            data: a `mujoco.MjData` of the model, with positions up to date.
            camera: the camera's name or number.

        Raises:
            ConfigurationError: the model has no such camera.
        """
        self._draw(data, camera)
        self._mujoco.mjr_readPixels(None, self._depths, self._viewport, self._context)
        extent, planes = self._model.stat.extent, self._model.vis.map
        near, far = planes.znear * extent, planes.zfar * extent
        return near / (self._depths[::-1].astype(np.float64) * (1.0 - near / far) + near / far)

    def _draw(self, data: Any, camera: str | int) -> None:
        mujoco = self._mujoco
        number: int = (
            mujoco.mj_name2id(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera) if isinstance(camera, str) else camera
        )
        if not 0 <= number < self._model.ncam:
            names = [self._model.camera(i).name for i in range(self._model.ncam)]
            raise ConfigurationError(f"the model has no camera {camera!r}; it has {', '.join(names)}")
        self._camera.fixedcamid = number
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self._model, data, self._option, self._perturbation, self._camera, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        mujoco.mjr_render(self._viewport, self._scene, self._context)

    def close(self) -> None:
        """Free the OpenGL context."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()


def choose_gl() -> str:
    """Return the name of the OpenGL library for off-screen rendering, and set MUJOCO_GL to it if it is not set.

    The default is EGL on a machine with a GPU, else OSMesa, which renders in software. If another package has bound
    PyOpenGL to a library, that library is used, because the binding is permanent.

    Raises:
        ConfigurationError: MUJOCO_GL does not name a library for off-screen rendering.
    """
    has_gpu = bool(glob.glob("/dev/nvidia[0-9]*") or glob.glob("/dev/dri/renderD*"))
    default = os.environ.get("PYOPENGL_PLATFORM") or ("egl" if has_gpu else "osmesa")
    name = os.environ.setdefault("MUJOCO_GL", default).lower()
    if name not in _SYSTEM_PACKAGES:
        raise ConfigurationError(
            f"MUJOCO_GL must be one of {', '.join(_SYSTEM_PACKAGES)} to render images, got {name!r}"
        )
    return name


def missing_library(error: Exception) -> MissingPackageError:
    """Build the error for an OpenGL library that cannot be loaded.

    Args:
        error: the error raised while loading it.
    """
    name = os.environ.get("MUJOCO_GL", "").lower()
    others = " or ".join(other for other in _SYSTEM_PACKAGES if other != name)
    return MissingPackageError(
        f"MUJOCO_GL={name} does not work here ({error}): install its libraries (Debian and Ubuntu: "
        f"apt install {_SYSTEM_PACKAGES.get(name, 'libosmesa6')}) or set MUJOCO_GL to {others}"
    )


def _contexts(model: Any, size: int, multisampling: bool) -> tuple[Any, Any]:
    """Create an OpenGL context of the chosen library, make it current, and create MuJoCo's context in it."""
    import mujoco

    name = choose_gl()
    model.vis.global_.offwidth = model.vis.global_.offheight = size
    samples = model.vis.quality.offsamples
    if not multisampling:
        model.vis.quality.offsamples = 0
    try:
        # Not mujoco.GLContext: its library is chosen when MuJoCo is imported, possibly before MUJOCO_GL was set.
        gl = importlib.import_module(f"mujoco.{name}").GLContext(size, size)
        gl.make_current()
        return gl, mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
    except (ImportError, AttributeError, RuntimeError, OSError, mujoco.FatalError) as error:
        raise missing_library(error) from error
    finally:
        model.vis.quality.offsamples = samples
