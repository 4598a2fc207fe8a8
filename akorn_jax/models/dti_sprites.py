"""DTI-Sprites (arXiv 2104.14575): images as layers of a few learned, transformed sprites.

A sprite is a small image with a mask. An encoder predicts how each layer would transform each
sprite to explain the image; of all these candidates, a layer shows the one that explains it best.

Letters: B images, L layers, S sprites and K = S + 1 choices (the last is an empty sprite, if there
is one), F features. Index 0 of 1 + L layers is the background.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from akorn_jax.layers.buffer import Buffer
from akorn_jax.layers.noise import Noise
from akorn_jax.layers.resnet import ResNet
from akorn_jax.layers.transformations import (
    DEFORMATIONS,
    Parameters,
    Regressors,
    Transformations,
    soft_clamp,
)
from akorn_jax.outputs import ModelOutput

Array = jax.Array


class Layers(NamedTuple):
    """Images with masks; both share their leading axes."""

    rgb: Array  # [..., H, W, 3]
    masks: Array  # [..., H, W]


class Model(nnx.Module):
    """Explains an image by a background and L layers, each of which shows one of K sprites.

    Args:
        image_size: H = W.
        num_sprites: S.
        num_layers: L, the most objects in an image.
        sprite_size: sides of a sprite, pixels.
        mask_std: pixels, of the Gaussian that every mask starts as.
        encoder: "resnet18" or "resnet32", see `ResNet`.
        encoder_channels: per stage of the encoder.
        pool_size: regions that the encoder's map is averaged over.
        hidden_size: of the regressors' two hidden layers.
        sprite_transformations: of a sprite in its own pixels, predicted per layer and sprite.
        layer_transformations: of whatever sprite a layer shows; "position" brings it to the canvas.
        background_transformations: of the background. All three list "identity", "color",
            "position", "similarity" or "projective", in the order in which they act.
        empty_sprite: give layers the choice of showing nothing.
        background: learn a background image; without, it is black.
        occlusion: "predicted" for each pair of layers, or "fixed": later layers lie on top.
        num_sweeps: over the layers, when choosing sprites.
        empty_penalty: what a sprite must improve the mean squared error by, to be shown.
        mask_noise: the training adds U(-mask_noise, mask_noise) to the masks, which thereby learn
            to be 0 or 1; 0 for none.
    """

    def __init__(
        self,
        *,
        image_size: int = 128,
        num_sprites: int = 10,
        num_layers: int = 10,
        sprite_size: int = 40,
        mask_std: float = 10.0,
        encoder: str = "resnet18",
        encoder_channels: Sequence[int] = (64, 128, 256, 512),
        pool_size: Sequence[int] = (2, 2),
        hidden_size: int = 128,
        sprite_transformations: Sequence[str] = ("identity", "projective"),
        layer_transformations: Sequence[str] = ("color", "position"),
        background_transformations: Sequence[str] = ("color",),
        empty_sprite: bool = True,
        background: bool = True,
        occlusion: str = "predicted",
        num_sweeps: int = 3,
        empty_penalty: float = 1e-4,
        mask_noise: float = 0.4,
        rngs: nnx.Rngs,
    ) -> None:
        if occlusion not in ("predicted", "fixed"):
            raise ValueError(f"{occlusion=} is unknown; it is 'predicted' or 'fixed'.")
        if "position" not in layer_transformations:
            raise ValueError(
                f"layer_transformations={tuple(layer_transformations)} never bring a sprite to the "
                "canvas; add 'position'."
            )
        if num_sweeps < 1:
            raise ValueError(f"{num_sweeps=}: choosing sprites takes at least 1 sweep.")
        self.image_size = image_size
        self.num_sprites = num_sprites
        self.num_layers = num_layers
        self.empty_sprite = empty_sprite
        self.num_sweeps = num_sweeps
        self.empty_penalty = empty_penalty
        self.mask_noise = mask_noise

        canvas, own = (image_size, image_size), (sprite_size, sprite_size)
        bump = np.exp(-((np.arange(sprite_size) - (sprite_size - 1) / 2) ** 2) / (2 * mask_std**2))
        masks = np.broadcast_to(np.outer(bump, bump), (num_sprites, *own))
        self.sprites = nnx.Param(jnp.full((num_sprites, *own, 3), 0.9, jnp.float32))
        self.masks = nnx.Param(jnp.asarray(masks, jnp.float32))
        self.background = (
            nnx.Param(jnp.full((*canvas, 3), 0.5, jnp.float32)) if background else None
        )
        # Whether deformations act in calls that do not say; 0 after loading official weights that
        # were saved before they did.
        self.deforms = Buffer(jnp.ones(()))

        self.encoder = ResNet(encoder, encoder_channels, pool_size, rngs=rngs)
        widths = (self.encoder.out_features, hidden_size)
        K = num_sprites + empty_sprite
        self.sprite_transformations = Transformations(
            sprite_transformations, (num_layers, K), widths, size=own, padding="zeros", rngs=rngs
        )
        self.layer_transformations = Transformations(
            layer_transformations, (num_layers,), widths, size=canvas, padding="zeros", rngs=rngs
        )
        self.background_transformations = (
            Transformations(
                background_transformations, (), widths, size=canvas, padding="border", rngs=rngs
            )
            if background
            else None
        )
        pairs = num_layers * (num_layers - 1) // 2
        predicted = occlusion == "predicted"
        self.occlusion = Regressors((), (*widths, pairs), rngs=rngs) if predicted else None

    def __call__(
        self,
        images: Array,
        *,
        key: Array | Noise | None = None,
        train: bool = False,
        trajectory: bool = False,
        learn_sprites: Array | float = 1.0,
        deform: Array | float | None = None,
    ) -> ModelOutput:
        """Images `[B, H, W, 3]` in [0, 1] to layers.

        Args:
            images: H = W = `image_size`.
            key: draws the masks' noise, in training only.
            train: use and record the batch's statistics, and add the masks' noise.
            trajectory: changes nothing; there are no intermediate states to keep.
            learn_sprites: 0 or 1. At 0 sprites and masks get no gradient, no layer may be empty and
                showing a sprite costs nothing, so that the transformations are learned first.
            deform: 0 or 1, whether similarities and homographies act and are trained; what the
                model was loaded with (1 for a new one) if None.

        Returns:
            terms: "mse", the mean over pixels and channels; "l2", half the squared norm of the
            encoder and the regressors, where their outputs are in use (the same for all images).
            recon `[B, H, W, 3]`. masks `[B, 1 + L, H, W]`, what each layer contributes, and
            patches `[B, 1 + L, H, W, 3]`, its colours. slots `[B, 1 + L, K]`, the sprite that each
            layer shows, one-hot (zeros for the background), of the dictionary `[B, S, h, w, 4]`.
            presence `[B, 1 + L]`, 0 for empty layers.

        Raises:
            ValueError: images of another size, or a training without key.
        """
        if images.shape[1:3] != (self.image_size, self.image_size):
            raise ValueError(
                f"images are {images.shape[1]}x{images.shape[2]}, and the model's image_size is "
                f"{self.image_size}."
            )
        B, L = len(images), self.num_layers
        learn = jnp.asarray(learn_sprites) > 0.5
        deform = jnp.asarray(self.deforms[...] if deform is None else deform) > 0.5
        features = self.encoder(images, train=train)
        sprites, noise = self.dictionary_layers(key if train else None, train=train)
        sprites = jnp.where(learn, sprites, jax.lax.stop_gradient(sprites))
        of_sprites = self.sprite_transformations.predict(features)  # [L, K, B, d] each
        of_layers = self.layer_transformations.predict(features)  # [L, B, d] each
        background = self.transformed_background(features, deform)
        order = self.order(features)

        candidates = self.candidates(
            *jax.lax.stop_gradient((sprites, noise, of_sprites, of_layers)), deform
        )
        choice, _ = jax.lax.stop_gradient(
            choose(
                images,
                candidates,
                jax.lax.stop_gradient(background),
                jax.lax.stop_gradient(order),
                penalty=self.penalty(learn),
                num_sweeps=self.num_sweeps,
            )
        )  # [L, B]

        # What is not chosen has no gradient, so that rendering the chosen once more is exact and
        # spares a backward pass through K times as many images.
        l, b = jnp.arange(L)[:, None], jnp.arange(B)
        chosen = self.render(
            sprites[choice],
            None if noise is None else noise[choice],
            {name: beta[l, choice, b] for name, beta in of_sprites.items()},
            of_layers,
            deform,
        )
        layers = Layers(
            jnp.concatenate([background[None], chosen.rgb]),
            jnp.concatenate([jnp.ones_like(chosen.masks[:1]), chosen.masks]),
        )
        shown = visibility(layers.masks, order) * layers.masks  # [1 + L, B, H, W]
        recon = jnp.sum(shown[..., None] * layers.rgb, axis=0)
        slots = jax.nn.one_hot(choice, len(sprites))
        slots = jnp.concatenate([jnp.zeros_like(slots[:1]), slots])  # [1 + L, B, K]
        is_empty = slots[..., -1] if self.empty_sprite else jnp.zeros(slots.shape[:2])
        return ModelOutput(
            terms={
                "mse": jnp.mean((images - recon) ** 2, axis=(1, 2, 3)),
                "l2": jnp.broadcast_to(self.l2(deform), (B,)),
            },
            recon=recon,
            masks=jnp.swapaxes(shown, 0, 1),
            patches=jnp.swapaxes(layers.rgb, 0, 1),
            slots=jnp.swapaxes(slots, 0, 1),
            dictionary=jnp.broadcast_to(self.dictionary(), (B, *self.dictionary().shape)),
            presence=1 - jnp.swapaxes(is_empty, 0, 1),
        )

    def dictionary(self) -> Array:
        """The sprites as RGBA `[S, h, w, 4]` in [0, 1]."""
        return jnp.clip(jnp.concatenate([self.sprites[...], self.masks[...][..., None]], -1), 0, 1)

    def init_background(self, images: Array) -> None:
        """Starts the background as the mean of images `[N, H, W, 3]`, if there is one."""
        if self.background is not None:
            self.background[...] = jnp.mean(images, axis=0)

    def dictionary_layers(
        self, key: Array | Noise | None, *, train: bool
    ) -> tuple[Array, Array | None]:
        """What is transformed, `[K, h, w, C]`, and the masks' noise `[K, H, W]`.

        C is RGB, mask and, where there is noise, a channel that says where it falls: noise is added
        in the canvas's pixels, after the warps, which would blur it.
        """
        masks, noise, more = self.masks[...][..., None], None, ()
        if train and self.mask_noise > 0:
            size = (self.num_sprites + self.empty_sprite, self.image_size, self.image_size)
            noise = self.mask_noise * (2 * Noise.of(key).uniform(size) - 1)
            more = (jnp.ones_like(masks),)
        else:
            masks = soft_clamp(masks)
        sprites = jnp.concatenate([soft_clamp(self.sprites[...]), masks, *more], axis=-1)
        if self.empty_sprite:
            sprites = jnp.concatenate([sprites, jnp.zeros_like(sprites[:1])])
        return sprites, noise

    def candidates(
        self,
        sprites: Array,
        noise: Array | None,
        of_sprites: Parameters,
        of_layers: Parameters,
        deform: Array,
    ) -> Layers:
        """Every sprite as every layer would show it: RGB `[L, K, B, H, W, 3]` and masks.

        One layer at a time: together their intermediate images would fill the memory.
        """
        noise = None if noise is None else noise[:, None]
        return jax.lax.map(
            lambda betas: self.render(sprites[:, None], noise, *betas, deform),
            (of_sprites, of_layers),
        )

    def render(
        self,
        sprites: Array,
        noise: Array | None,
        of_sprites: Parameters,
        of_layers: Parameters,
        deform: Array,
    ) -> Layers:
        """Sprites `[*b, h, w, C]`, transformed, with noise `[*b, H, W]`, on the canvas.

        Args:
            of_sprites, of_layers: parameters `[*b, d]` of the transformations; all leading axes
                broadcast.
        """
        x = self.sprite_transformations.apply(sprites, of_sprites, deform)
        x = self.layer_transformations.apply(x, of_layers, deform)
        rgb, masks = x[..., :3], x[..., 3]
        if noise is not None:
            masks = soft_clamp(masks + x[..., 4] * noise)
        return Layers(rgb, masks)

    def transformed_background(self, features: Array, deform: Array) -> Array:
        """The background of each image `[B, H, W, 3]`; black where none is learned."""
        if self.background is None:
            return jnp.zeros((len(features), self.image_size, self.image_size, 3))
        tsf = self.background_transformations
        clamped = jnp.broadcast_to(
            soft_clamp(self.background[...]), (len(features), *self.background.shape)
        )
        return tsf.apply(clamped, tsf.predict(features), deform)

    def order(self, features: Array) -> Array:
        """O `[1 + L, 1 + L, B]`, the probability that layer j occludes layer k (equation 5)."""
        B, L = len(features), self.num_layers
        rows, columns = np.tril_indices(L, -1)
        if self.occlusion is None:
            pairs = jnp.ones((B, len(rows)))
        else:
            pairs = jax.nn.sigmoid(self.occlusion(features))  # [B, L (L - 1) / 2]
        order = jnp.zeros((1 + L, 1 + L, B))
        order = order.at[1:, 0].set(1)  # all occlude the background
        order = order.at[1 + rows, 1 + columns].set(pairs.T)
        return order.at[1 + columns, 1 + rows].set(1 - pairs.T)

    def penalty(self, learn: Array) -> Array:
        """What choosing each sprite costs, `[K]`."""
        if not self.empty_sprite:
            return jnp.zeros(self.num_sprites)
        sprites = jnp.full(self.num_sprites, jnp.where(learn, self.empty_penalty, 0.0))
        return jnp.append(sprites, jnp.where(learn, 0.0, jnp.inf))

    def l2(self, deform: Array) -> Array:
        """Half the squared norm of the weights whose outputs are in use, a scalar."""
        modules = [(self.encoder, True)]
        if self.occlusion is not None:
            modules.append((self.occlusion, True))
        for tsf in (
            self.sprite_transformations,
            self.layer_transformations,
            self.background_transformations,
        ):
            if tsf is not None:
                for name, regressors in tsf.regressors.items():
                    modules.append((regressors, deform if name in DEFORMATIONS else True))
        norms = [
            jnp.where(used, sum(jnp.sum(p**2) for p in jax.tree.leaves(nnx.state(m, nnx.Param))), 0)
            for m, used in modules
        ]
        return sum(norms) / 2


def choose(
    images: Array,
    candidates: Layers,
    background: Array,
    order: Array,
    *,
    penalty: Array,
    num_sweeps: int,
) -> tuple[Array, Array]:
    """The sprite of each layer, by greedy descent over one layer after the other (section 3.2).

    All layers are empty at first. A layer tries every candidate with the other layers as they are
    and keeps the one with the least mean squared error.

    With the other layers fixed the image is affine in what a layer shows: of candidates c with
    masks m it is A + m (V c - D). A is the image without the layer, V what the others leave visible
    of it, and D what it takes from A where it is opaque. Hence a candidate costs one image.

    Args:
        images: `[B, H, W, 3]`.
        candidates: RGB `[L, K, B, H, W, 3]` and masks `[L, K, B, H, W]`.
        background: `[B, H, W, 3]`.
        order: O `[1 + L, 1 + L, B]`, see `Model.order`.
        penalty: `[K]`, added to the errors; infinite for what may not be chosen.
        num_sweeps: over all layers.

    Returns:
        Choices `[L, B]` int32, and the errors with the penalty `[num_sweeps L, K, B]`.
    """
    L, _, B = candidates.masks.shape[:3]
    rgb = jnp.zeros((1 + L, *background.shape)).at[0].set(background)
    masks = jnp.zeros(rgb.shape[:-1]).at[0].set(1)

    def choose_one(state: tuple[Layers, Array], l: Array) -> tuple[tuple[Layers, Array], Array]:
        layers, choice = state
        c, m = candidates.rgb[l], candidates.masks[l]  # [K, B, H, W(, 3)]
        others = layers.masks.at[1 + l].set(0)
        visible = visibility(others, order)
        shown = (visible * others)[..., None] * layers.rgb  # [1 + L, B, H, W, 3]
        A = jnp.sum(shown, axis=0)
        D = jnp.sum(order[1 + l][..., None, None, None] * shown, axis=0)
        V = visible[1 + l][..., None]
        errors = jnp.mean((images - A - m[..., None] * (V * c - D)) ** 2, axis=(2, 3, 4))
        errors += penalty[:, None]  # [K, B]
        k, b = jnp.argmin(errors, axis=0), jnp.arange(B)
        layers = Layers(layers.rgb.at[1 + l].set(c[k, b]), layers.masks.at[1 + l].set(m[k, b]))
        return (layers, choice.at[l].set(k)), errors

    initial = (Layers(rgb, masks), jnp.zeros((L, B), jnp.int32))
    (_, choice), errors = jax.lax.scan(choose_one, initial, jnp.tile(jnp.arange(L), num_sweeps))
    return choice, errors


def visibility(masks: Array, order: Array) -> Array:
    """V_k = prod_j (1 - O_jk m_j), the share of each layer that no other hides (equation 4).

    Args:
        masks: m `[1 + L, B, H, W]`, the background first, which hides nothing.
        order: O `[1 + L, 1 + L, B]`.

    Returns:
        `[1 + L, B, H, W]`.
    """
    visible = jnp.ones_like(masks)
    for O, m in zip(order[1:], masks[1:], strict=True):
        visible *= 1 - O[..., None, None] * m
    return visible
