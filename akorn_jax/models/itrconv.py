"""ItrConv, iterated convolution.

The AKOrN paper (arXiv 2410.13821) lists its scores, but no description or code of it was published.
This reading is ours: ItrSA with its attention replaced by a k x k convolution, k as in AKOrN's
convolutional variant.
"""

from collections.abc import Sequence

from flax import nnx

from akorn_jax.layers.convolution import GridConv
from akorn_jax.layers.iterated import IteratedNetwork


class Model(IteratedNetwork):
    """An iterated network that mixes tokens by a convolution.

    Args:
        kernel_size: of the convolution, odd.
        mlp_dim: width of the MLP's hidden layer; 2 C unless given.
        channels, num_layers, num_steps, patch_size, image_size, pool, autorescale, remat, unroll:
            see `layers.iterated.IteratedNetwork`.
    """

    def __init__(
        self,
        *,
        channels: int,
        num_layers: int = 1,
        num_steps: int = 8,
        patch_size: int = 4,
        image_size: int | Sequence[int] = 32,
        kernel_size: int = 5,
        mlp_dim: int | None = None,
        pool: str = "max",
        autorescale: bool = False,
        remat: bool = True,
        unroll: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            lambda _: GridConv(channels, channels, kernel_size, rngs=rngs),
            channels=channels,
            num_layers=num_layers,
            num_steps=num_steps,
            patch_size=patch_size,
            image_size=image_size,
            mlp_dim=2 * channels if mlp_dim is None else mlp_dim,
            positions=True,
            pool=pool,
            autorescale=autorescale,
            remat=remat,
            unroll=unroll,
            rngs=rngs,
        )
