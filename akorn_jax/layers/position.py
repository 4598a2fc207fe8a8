"""Where a token is: the sinusoidal table and GTA (arXiv 2310.10375) with learnable matrices."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Array = jax.Array


def sinusoidal_table(height: int, width: int, channels: int) -> np.ndarray:
    """The table `[h, w, C]`: C / 2 channels for the column, then C / 2 for the row.

    Channels 2 m and 2 m + 1 are the sine and cosine of position / 10000^(4 m / C).
    """
    if channels % 4:
        raise ValueError(f"{channels=} must be divisible by 4: sine and cosine for two axes.")
    half = channels // 2
    frequency = 10000.0 ** (-2 * np.arange(half // 2) / half)

    def encode(positions: np.ndarray) -> np.ndarray:
        angle = positions[:, None] * frequency
        return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(len(positions), half)

    table = np.empty((height, width, channels), np.float32)
    table[..., :half] = encode(np.arange(width))[None, :]
    table[..., half:] = encode(np.arange(height))[:, None]
    return table


def rotations(height: int, width: int, head_dim: int) -> np.ndarray:
    """Rotation matrices `[h w, d / 2, 2, 2]`, one for each token and pair of head dimensions.

    Pair 2 k + axis turns by (row, column)[axis] / 10000^(k / F) with F = ceil(d / 4).
    """
    count = -(-head_dim // 4)
    frequency = 10000.0 ** (-np.arange(count) / count)
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    position = np.stack([rows.ravel(), columns.ravel()], axis=-1)  # [h w, 2]
    angle = (position[:, None, :] * frequency[:, None]).reshape(len(position), -1)
    angle = angle[:, : head_dim // 2]
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos, -sin, sin, cos], axis=-1).reshape(*angle.shape, 2, 2).astype(np.float32)


class GTA(nnx.Module):
    """Geometric transform attention: matrices that act on queries, keys, values and outputs.

    They start as the rotations of `rotations` (and their inverse for the outputs) and are then
    unconstrained; all heads share them. At another resolution than `grid` the matrices' entries are
    interpolated, so positions are stretched.
    """

    def __init__(self, grid: tuple[int, int], head_dim: int) -> None:
        if head_dim % 2:
            raise ValueError(f"{head_dim=} must be even: GTA turns pairs of head dimensions.")
        forward = rotations(*grid, head_dim)
        self.grid = grid
        # Four arrays of their own: shared memory cannot be donated, and they are trained apart.
        self.q = nnx.Param(jnp.array(forward))
        self.k = nnx.Param(jnp.array(forward))
        self.v = nnx.Param(jnp.array(forward))
        self.o = nnx.Param(jnp.array(forward.swapaxes(-1, -2)))

    def apply(self, which: str, tokens: Array, grid: tuple[int, int]) -> Array:
        """Turns tokens `[..., h w, d]` by the matrices `which` ("q", "k", "v" or "o").

        A pair is made of the head dimensions f and f + d / 2.
        """
        matrices = self._at(getattr(self, which)[...], grid)  # [h w, d / 2, 2, 2]
        a, b = jnp.split(tokens, 2, axis=-1)
        return jnp.concatenate(
            [
                matrices[..., 0, 0] * a + matrices[..., 0, 1] * b,
                matrices[..., 1, 0] * a + matrices[..., 1, 1] * b,
            ],
            axis=-1,
        )

    def _at(self, matrices: Array, grid: tuple[int, int]) -> Array:
        if grid == self.grid:
            return matrices
        shape = matrices.shape[1:]
        image = jax.image.resize(
            matrices.reshape(*self.grid, *shape), (*grid, *shape), "linear", antialias=False
        )
        return image.reshape(-1, *shape)
