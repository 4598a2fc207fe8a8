"""What several dataset tests need."""

import numpy as np
import pytest


@pytest.fixture(scope="session")
def random_record():
    """`random_record(schema, rng)`: a record with the schema's fields and a random label map."""
    return _random_record


def _random_record(schema, rng):
    """A record with the schema's fields and a random label map."""
    record = {
        "image": rng.integers(0, 256, schema.image, dtype=np.uint8),
        "segmentation": rng.integers(0, schema.num_entities, schema.image[:2], dtype=np.uint8),
    }
    for name, field in schema.attributes:
        if name == "visibility":
            record[name] = rng.integers(0, 2, field.shape).astype(np.float32)
        elif field.dtype == "uint8":
            record[name] = rng.integers(0, 3, field.shape, dtype=np.uint8)
        else:
            record[name] = rng.normal(size=field.shape).astype(np.float32)
    return record
