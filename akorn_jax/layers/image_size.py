"""What models of one image size say to images of another."""

import jax

from akorn_jax.errors import UserError

Array = jax.Array


def check_image_size(images: Array, image_size: int) -> None:
    """Raises a UserError unless images are `[B, image_size, image_size, 3]`."""
    if images.shape[1:] != (image_size, image_size, 3):
        raise UserError(
            f"images have shape {images.shape}; the model takes [B, {image_size}, {image_size}, "
            "3]: set config.model.image_size to what the data has."
        )
