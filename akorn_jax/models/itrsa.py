"""ItrSA, iterated self-attention, the baseline of AKOrN (arXiv 2410.13821); one step is a ViT."""

from collections.abc import Sequence

from flax import nnx

from akorn_jax.layers.attention import Attention
from akorn_jax.layers.iterated import IteratedNetwork


class Model(IteratedNetwork):
    """An iterated network that mixes tokens by self-attention.

    Args:
        heads: of the attention.
        mlp_dim: width of the MLP's hidden layer; 2 C unless given.
        gta: relative positions inside the attention instead of a position table.
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
        heads: int = 8,
        mlp_dim: int | None = None,
        gta: bool = False,
        pool: str = "max",
        autorescale: bool = False,
        remat: bool = True,
        unroll: bool = False,
        rngs: nnx.Rngs,
    ) -> None:
        super().__init__(
            lambda grid: Attention(channels, heads, grid=grid, gta=gta, rngs=rngs),
            channels=channels,
            num_layers=num_layers,
            num_steps=num_steps,
            patch_size=patch_size,
            image_size=image_size,
            mlp_dim=2 * channels if mlp_dim is None else mlp_dim,
            positions=not gta,
            pool=pool,
            autorescale=autorescale,
            remat=remat,
            unroll=unroll,
            rngs=rngs,
        )
