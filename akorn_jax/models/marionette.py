"""MarioNette (arXiv 2104.14553): images as a grid of sprites from one learned dictionary.

Every cell of a grid, in each of several layers, is matched to the sprites by attention, which the
training drives to a single one, shifted a little and laid over what is behind it.

Letters: B images, L layers, G x G cells, N = G^2 cells per layer, S sprites, D features of a code.
A cell has c pixels and its sprite 2 c, so that neighbours overlap by half. Sprites whose rows and
columns have the same parity do not overlap: four such groups tile the canvas.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.group_norm import GroupNorm
from akorn_jax.layers.linear import linear
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.partial_convolution import PartialConv
from akorn_jax.layers.spatial_transformer import pixel_centers, resample
from akorn_jax.outputs import ModelOutput

Array = jax.Array

# Parities (row, column) of the cells that make up each group, back to front unless permuted.
GROUPS = ((0, 0), (1, 1), (1, 0), (0, 1))
NUM_NORM_GROUPS = 8
EPSILON = 1e-5  # of layer norms
CLIP = 1e-5  # of probabilities, in the density that drives them to 0 and 1


class Model(nnx.Module):
    """Composes an image of L layers of sprites over a background from a second dictionary.

    Args:
        image_size: H = W.
        grid_size: G.
        num_layers: L.
        num_sprites: S.
        code_size: D, a multiple of 8.
        num_backgrounds: entries of the background dictionary; with one, all images share it.
        background_code_size: of their codes, a multiple of 8 and at least 16: with 8, every group
            of the last norm has one entry, which norms to zero.
        background_color: a fixed colour (r, g, b) in [0, 1], instead of the dictionary.
        straight_through: round the presences in the forward pass alone.
        presence_weights: of each layer in the term "presence"; all 1 if None.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        grid_size: int = 8,
        num_layers: int = 2,
        num_sprites: int = 150,
        code_size: int = 128,
        num_backgrounds: int = 1,
        background_code_size: int = 32,
        background_color: Sequence[float] | None = None,
        straight_through: bool = False,
        presence_weights: Sequence[float] | None = None,
        rngs: nnx.Rngs,
    ) -> None:
        cell = image_size // grid_size
        if (
            cell * grid_size != image_size
            or not _is_power_of_two(cell)
            or cell < 2
            or grid_size % 2
        ):
            raise ValueError(
                f"{image_size=} is not an even {grid_size=} cells of 2, 4, 8, ... pixels; choose "
                "sizes that are."
            )
        if background_color is None and not _is_power_of_two(image_size):
            raise ValueError(
                f"{image_size=} is not a power of two, as the background's encoder needs it; "
                "resize the images, or set background_color."
            )
        for name, size in (
            ("code_size", code_size),
            ("background_code_size", background_code_size),
        ):
            if size % NUM_NORM_GROUPS:
                raise ValueError(f"{name}={size} is not a multiple of {NUM_NORM_GROUPS}.")
        if presence_weights is not None and len(presence_weights) != num_layers:
            raise ValueError(f"{presence_weights=} must have one number for each of {num_layers=}.")
        self.image_size = image_size
        self.grid_size = grid_size
        self.cell = cell
        self.num_layers = num_layers
        self.straight_through = straight_through
        weights = (1.0,) * num_layers if presence_weights is None else presence_weights
        self.presence_weights = tuple(weights)

        D, E = code_size, background_code_size
        self.encoder = Encoder(3, image_size, grid_size, D, num_heads=num_layers, rngs=rngs)
        self.presence = Head(D, 1, rngs=rngs)
        self.project = linear(D, D, rngs=rngs)
        self.sprites = Dictionary(num_sprites, 2 * cell, 4, D, rngs=rngs)
        self.patch_encoder = Encoder(7, 2 * cell, 1, D, num_heads=1, rngs=rngs)
        self.shift = Head(D, 2, rngs=rngs)
        if background_color is None:
            self.background_encoder = Encoder(3, image_size, 1, E, num_heads=1, rngs=rngs)
            self.background_project = linear(E, E, rngs=rngs)
            self.backgrounds = Dictionary(num_backgrounds, image_size, 3, E, rngs=rngs)
            self.background_color = None
        else:
            self.background_color = Buffer(jnp.asarray(background_color, jnp.float32))

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        hard: Array | bool = False,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to sprites in a grid.

        Args:
            images: H = W = `image_size`.
            key: draws the order of the groups, in training only.
            train: lay the groups over each other in a random order, so that none is always behind;
                otherwise in that of `GROUPS`.
            trajectory: changes nothing; there are no intermediate states to keep.
            hard: compose of single sprites, wholly there or not, instead of mixtures.

        Returns:
            terms: "mse", the mean over pixels and channels; "beta", half the sum of the mean
            densities of Beta(2, 2) at the matches and at the presences, which is 0 where they are 0
            or 1; "presence", the mean over layers and cells of weighted presences. recon
            `[B, H, W, 3]`. masks `[B, 1 + 4 L T, H, W]`: the background, then each sprite, back to
            front: by layer, group, and row by row of its T = (G / 2)^2 cells. In the same order:
            patches `[B, 1 + 4 L T, H, W, 3]`, slots `[B, 1 + 4 L T, S]`, how much each sprite of
            the dictionary `[B, S, 2 c, 2 c, 4]` is matched (zeros for the background), and
            presence `[B, 1 + 4 L T]`.

        Raises:
            ValueError: images of another size, or a training without key.
        """
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {images.shape[1]}x{images.shape[2]}, and the model's image_size is "
                f"{self.image_size}."
            )
        sprites, sprite_codes = self.sprites()
        codes = jnp.stack(self.encoder(images), axis=1)  # [B, L, G, G, D]
        presence = jax.nn.sigmoid(self.presence(codes))[..., 0]  # [B, L, G, G]
        if self.straight_through:
            presence += jax.lax.stop_gradient(jnp.round(presence) - presence)
        matches = match(self.project(codes), sprite_codes)  # [B, L, G, G, S]
        patches = mix(matches, sprites)  # [B, L, G, G, 2 c, 2 c, 4]
        shifts = self.shifts(images, patches)
        if hard is not False:
            single = jax.nn.one_hot(jnp.argmax(matches, axis=-1), matches.shape[-1])
            matches = jnp.where(hard, single, matches)
            presence = jnp.where(hard, jnp.round(presence), presence)
            patches = mix(matches, sprites)
        patches = shifted(patches * presence[..., None, None, None], shifts)

        order = Noise.of(key).permutation(len(GROUPS)) if train else jnp.arange(len(GROUPS))
        canvases = self.canvases(patches)[:, :, order]  # [B, L, 4, H, W, 4]
        canvases = canvases.reshape(len(images), -1, *canvases.shape[3:])
        rgb, alpha = canvases[..., :3], canvases[..., 3]
        background = self.background(images)
        recon = background
        for i in range(rgb.shape[1]):
            a = alpha[:, i, ..., None]
            recon = (1 - a) * recon + a * rgb[:, i]

        return ModelOutput(
            terms={
                "mse": jnp.mean((images - recon) ** 2, axis=(1, 2, 3)),
                "beta": (_mean(beta_density(matches)) + _mean(beta_density(presence))) / 2,
                # A presence that is rounded to 0 is not pushed any further.
                "presence": _mean(
                    jnp.where(presence > 0, presence, 0.0)
                    * jnp.array(self.presence_weights)[:, None, None]
                ),
            },
            recon=recon,
            **self.segments(rgb, alpha, background, order),
            slots=self.in_order(matches, order, background=0.0),
            dictionary=jnp.broadcast_to(sprites, (len(images), *sprites.shape)),
            presence=self.in_order(presence[..., None], order, background=1.0)[..., 0],
        )

    def dictionary(self) -> Array:
        """The sprites as RGBA `[S, h, w, 4]` in [0, 1]."""
        return self.sprites()[0]

    def background(self, images: Array) -> Array:
        """What is behind all sprites, `[B, H, W, 3]`."""
        if self.background_color is not None:
            color = jax.lax.stop_gradient(jnp.clip(self.background_color[...], 0, 1))
            return jnp.broadcast_to(color, images.shape)
        pictures, picture_codes = self.backgrounds()
        codes = self.background_encoder(images)[0][:, 0, 0]  # [B, E]
        return mix(match(self.background_project(codes), picture_codes), pictures)

    def shifts(self, images: Array, patches: Array) -> Array:
        """How far each patch moves, (x, y) `[B, L, G, G, 2]` in [-1/2, 1/2] of half its side."""
        here = jnp.broadcast_to(
            neighbourhoods(images, self.cell)[:, None], (*patches.shape[:-1], images.shape[-1])
        )
        pairs = jnp.concatenate([here, patches], axis=-1)
        codes = self.patch_encoder(pairs.reshape(-1, *pairs.shape[-3:]))[0]
        codes = codes.reshape(*patches.shape[:4], -1)
        return jnp.tanh(self.shift(codes)) / 2

    def canvases(self, patches: Array) -> Array:
        """Patches `[B, L, G, G, 2 c, 2 c, C]` laid out by group, `[B, L, 4, H, W, C]`.

        The tiles of an even row begin half a cell above the image, those of an odd row half a cell
        below its top; columns likewise. What sticks out is cut off, what is missing is 0.
        """
        B, L, *_, C = patches.shape
        half, H = self.cell // 2, self.image_size
        groups = []
        for parities in GROUPS:
            row, column = parities
            tiles = patches[:, :, row::2, column::2]  # [B, L, G / 2, G / 2, 2 c, 2 c, C]
            canvas = tiles.swapaxes(3, 4).reshape(B, L, H, H, C)
            rows, columns = (slice(0, H - half) if odd else slice(half, H) for odd in parities)
            pads = ((half, 0) if odd else (0, half) for odd in parities)
            cut = canvas[:, :, rows, columns]
            groups.append(jnp.pad(cut, ((0, 0), (0, 0), *pads, (0, 0))))
        return jnp.stack(groups, axis=2)

    def regions(self) -> Array:
        """The pixels of the T tiles of each group, 0 or 1, `[4, T, H, W]`."""
        half = self.cell // 2
        odd = np.array(GROUPS)[..., None]
        index = (np.arange(self.image_size) + np.where(odd, -half, half)) // (2 * self.cell)
        belongs = jax.nn.one_hot(index, self.grid_size // 2)  # [4, (row, column), H, G / 2]
        regions = jnp.einsum("ghi,gwj->gijhw", belongs[:, 0], belongs[:, 1])
        return regions.reshape(len(GROUPS), -1, self.image_size, self.image_size)

    def segments(
        self, rgb: Array, alpha: Array, background: Array, order: Array
    ) -> dict[str, Array]:
        """The masks and patches of single sprites, from canvases `[B, 4 L, H, W(, 3)]`."""
        B, H = len(rgb), self.image_size
        regions = jnp.tile(self.regions()[order], (self.num_layers, 1, 1, 1))  # [4 L, T, H, W]
        in_front = jnp.cumprod((1 - alpha)[:, ::-1], axis=1)[:, ::-1]  # itself included
        visible = jnp.concatenate([in_front[:, 1:], jnp.ones((B, 1, H, H))], axis=1)
        masks = (alpha * visible)[:, :, None] * regions  # [B, 4 L, T, H, W]
        patches = rgb[:, :, None] * regions[..., None]
        return {
            "masks": jnp.concatenate([in_front[:, :1], masks.reshape(B, -1, H, H)], axis=1),
            "patches": jnp.concatenate(
                [background[:, None], patches.reshape(B, -1, H, H, 3)], axis=1
            ),
        }

    def in_order(self, cells: Array, order: Array, *, background: float) -> Array:
        """Properties of cells `[B, L, G, G, C]` in the masks' order `[B, 1 + 4 L T, C]`."""
        B, _, _, _, C = cells.shape
        groups = jnp.stack([cells[:, :, r::2, c::2] for r, c in GROUPS], axis=2)[:, :, order]
        return jnp.concatenate([jnp.full((B, 1, C), background), groups.reshape(B, -1, C)], axis=1)


class Dictionary(nnx.Module):
    """Learned codes and the pictures that a decoder makes of them.

    Args:
        num_entries: S.
        size: H = W of the pictures.
        channels: C of the pictures.
        code_size: D.
    """

    def __init__(
        self, num_entries: int, size: int, channels: int, code_size: int, *, rngs: nnx.Rngs
    ) -> None:
        self.shape = (size, size, channels)
        self.codes = nnx.Param(jax.random.normal(rngs.params(), (num_entries, code_size)))
        self.hidden = linear(code_size, 8 * code_size, rngs=rngs)
        self.norm = GroupNorm(8 * code_size, NUM_NORM_GROUPS, rngs=rngs)
        self.out = linear(8 * code_size, math.prod(self.shape), rngs=rngs)

    def __call__(self) -> tuple[Array, Array]:
        """Pictures `[S, H, W, C]` in (0, 1) and normalised codes `[S, D]`."""
        codes = layer_norm(self.codes[...])
        pictures = jax.nn.sigmoid(self.out(nnx.relu(self.norm(self.hidden(codes)))))
        return pictures.reshape(-1, *self.shape), codes


class Encoder(nnx.Module):
    """Halves an image until it is a grid of codes; each head gives codes of its own.

    Args:
        in_features: channels of the image.
        image_size: H = W.
        grid_size: of the codes; a power of two smaller than the image.
        code_size: D.
        num_heads: how many grids of codes.
    """

    def __init__(
        self,
        in_features: int,
        image_size: int,
        grid_size: int,
        code_size: int,
        *,
        num_heads: int,
        rngs: nnx.Rngs,
    ) -> None:
        D = code_size
        self.blocks = nnx.List(
            DownBlock(D if i > 0 else in_features, D, rngs=rngs)
            for i in range(int(math.log2(image_size // grid_size)))
        )
        self.heads = nnx.List(PartialConv(D, D, rngs=rngs) for _ in range(num_heads))

    def __call__(self, images: Array) -> list[Array]:
        """Images `[B, H, W, C]` to normalised codes `[B, G, G, D]`, one array per head."""
        x = images
        for block in self.blocks:
            x = block(x)
        return [layer_norm(head(x)) for head in self.heads]


class DownBlock(nnx.Module):
    """Two partial convolutions, the second of stride 2, each with group norm and leaky ReLU."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs) -> None:
        self.conv1 = PartialConv(in_features, out_features, rngs=rngs)
        self.norm1 = GroupNorm(out_features, NUM_NORM_GROUPS, rngs=rngs)
        self.conv2 = PartialConv(out_features, out_features, stride=2, rngs=rngs)
        self.norm2 = GroupNorm(out_features, NUM_NORM_GROUPS, rngs=rngs)

    def __call__(self, x: Array) -> Array:
        """`[B, H, W, C]` to `[B, H / 2, W / 2, C']`."""
        x = nnx.leaky_relu(self.norm1(self.conv1(x)))
        return nnx.leaky_relu(self.norm2(self.conv2(x)))


class Head(nnx.Module):
    """A hidden layer with group norm and leaky ReLU, and a linear map."""

    def __init__(self, in_features: int, out_features: int, *, rngs: nnx.Rngs) -> None:
        self.hidden = linear(in_features, in_features, rngs=rngs)
        self.norm = GroupNorm(in_features, NUM_NORM_GROUPS, rngs=rngs)
        self.out = linear(in_features, out_features, rngs=rngs)

    def __call__(self, codes: Array) -> Array:
        """`[..., D]` to `[..., out_features]`; each code is normalised by itself."""
        x = self.hidden(codes.reshape(-1, codes.shape[-1]))
        x = self.out(nnx.leaky_relu(self.norm(x)))
        return x.reshape(*codes.shape[:-1], -1)


def layer_norm(codes: Array) -> Array:
    """`[..., D]` with mean 0 and variance 1, without parameters."""
    mean = jnp.mean(codes, axis=-1, keepdims=True)
    return (codes - mean) * jax.lax.rsqrt(jnp.var(codes, axis=-1, keepdims=True) + EPSILON)


def match(projected: Array, entry_codes: Array) -> Array:
    """How much each of S entries fits codes `[..., D]`, which are normalised first: `[..., S]`."""
    logits = layer_norm(projected) @ entry_codes.T / np.sqrt(entry_codes.shape[-1])
    return jax.nn.softmax(logits, axis=-1)


def mix(matches: Array, pictures: Array) -> Array:
    """The mixtures `[..., h, w, C]` of pictures `[S, h, w, C]` by matches `[..., S]`."""
    S, *shape = pictures.shape
    mixed = matches.reshape(-1, S) @ pictures.reshape(S, -1)
    return mixed.reshape(*matches.shape[:-1], *shape)


def neighbourhoods(images: Array, cell: int) -> Array:
    """The patches of two cells' sides around each cell, `[B, G, G, 2 c, 2 c, C]`, 0 outside."""
    B, H, _, C = images.shape
    G, half = H // cell, cell // 2
    x = jnp.pad(images, ((0, 0), (half, half), (half, half), (0, 0)))
    x = x.reshape(B, G + 1, cell, G + 1, cell, C)
    x = jnp.concatenate([x[:, :-1], x[:, 1:]], axis=2)  # [B, G, 2 c, G + 1, c, C]
    x = jnp.concatenate([x[:, :, :, :-1], x[:, :, :, 1:]], axis=4)
    return x.swapaxes(2, 3)


def shifted(patches: Array, shifts: Array) -> Array:
    """RGBA patches `[..., h, w, 4]` moved by (x, y) `[..., 2]`.

    Beyond its border a patch goes on in colour, and is transparent.
    """
    rows = pixel_centers(patches.shape[-3]) - shifts[..., 1:]
    columns = pixel_centers(patches.shape[-2]) - shifts[..., :1]
    rgb = resample(patches[..., :3], rows, columns, padding="border")
    alpha = resample(patches[..., 3:], rows, columns)
    return jnp.concatenate([rgb, alpha], axis=-1)


def beta_density(p: Array) -> Array:
    """The density 6 p (1 - p) of Beta(2, 2), at p clipped to (0, 1)."""
    p = jnp.clip(p, CLIP, 1 - CLIP)
    return 6 * p * (1 - p)


def _mean(x: Array) -> Array:
    """`[B, ...]` to `[B]`."""
    return jnp.mean(x, axis=tuple(range(1, x.ndim)))


def _is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0
